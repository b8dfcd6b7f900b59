"""Dumps: written, opened whatever made them, and brought to the names and axes of our taps."""
