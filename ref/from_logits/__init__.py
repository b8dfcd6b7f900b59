"""From logits alone: whole-model mistakes run from the prompt, ranked by how much of a distance they explain."""
