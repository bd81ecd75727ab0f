"""Probes observe a learner without changing it."""

from plausible.probes.alignment import alignment
from plausible.probes.operations import Operations, operations

__all__ = ["Operations", "alignment", "operations"]
