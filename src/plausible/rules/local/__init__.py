"""Rules that send nothing beyond a layer, and controls."""
