"""Rules whose activity relaxes to low energy, and whose synapses learn from where it comes to rest."""
