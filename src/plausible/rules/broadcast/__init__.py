"""Rules that send the error, or the target, straight to every layer."""
