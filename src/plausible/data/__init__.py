"""Labelled images (or vectors): in memory, with a loader that keeps them on the device, or streamed from files."""

from plausible.data.augment import AUGMENTATIONS
from plausible.data.dataset import Dataset, Split, hold_out
from plausible.data.loader import Batches, Loader
from plausible.data.sources import AnyDataset, load, names

__all__ = ["AUGMENTATIONS", "AnyDataset", "Batches", "Dataset", "Loader", "Split", "hold_out", "load", "names"]
