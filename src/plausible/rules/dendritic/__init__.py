"""Rules whose errors are potentials of dendrites."""
