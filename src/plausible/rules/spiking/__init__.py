"""Rules for spiking recurrent nets."""
