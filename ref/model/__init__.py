"""The composition, written once over an `ops` argument: block, text, cache, generation, taps."""
