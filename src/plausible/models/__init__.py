"""Plain ``nn.Module`` networks of the field, by name; no rule knows them and they know no rule."""

from plausible.models.catalogue import build, names

__all__ = ["build", "names"]
