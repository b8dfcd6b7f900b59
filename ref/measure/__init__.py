"""How far a tap is from the truth, in multiples of what its number format must cost."""
