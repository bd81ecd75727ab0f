"""Labelled images (or vectors), and a loader that keeps them on the device."""

from plausible.data.augment import AUGMENTATIONS
from plausible.data.dataset import Dataset, Split, hold_out
from plausible.data.loader import Loader
from plausible.data.sources import load, names

__all__ = ["AUGMENTATIONS", "Dataset", "Loader", "Split", "hold_out", "load", "names"]
