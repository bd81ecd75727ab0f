"""Plain ``nn.Module`` networks of the field, by name; no rule knows them and they know no rule."""

from plausible.models.catalogue import build, names
from plausible.models.conversion import to_spikes
from plausible.models.populations import SpikingNet
from plausible.models.soft_lif import SoftLIF

__all__ = ["SoftLIF", "SpikingNet", "build", "names", "to_spikes"]
