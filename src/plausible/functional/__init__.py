"""Pure tensor mathematics of the field. Imports nothing of ours."""
