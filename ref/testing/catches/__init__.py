"""Which goldens catch each mistake in the rules without weights: crops, pixels, number formats, prompts."""
