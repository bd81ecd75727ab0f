"""Rules that send the error back layer by layer, through feedback weights."""
