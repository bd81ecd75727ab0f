"""Probes observe a learner without changing it."""

from plausible.probes.activity import Activity, activity
from plausible.probes.alignment import alignment
from plausible.probes.operations import Operations, operations
from plausible.probes.representations import representations

__all__ = ["Activity", "Operations", "activity", "alignment", "operations", "representations"]
