"""What a medium does to weights: one constraint = one file."""
