"""Probes observe a learner without changing it."""

from plausible.probes.alignment import alignment

__all__ = ["alignment"]
