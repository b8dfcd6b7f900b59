"""Golden files: where they are, whether they are whole, and how the reference is measured against them."""
