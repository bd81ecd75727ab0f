"""Rules that give every layer a target, carried down by inverse nets that are learned."""
