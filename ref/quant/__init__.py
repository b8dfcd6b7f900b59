"""Quantisation: what turns weights into codes, and what the codes cost in memory. `ref.ops.blocks` reads them back."""
