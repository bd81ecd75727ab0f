"""Rules that are told how good an action was, and not which would have been right."""
