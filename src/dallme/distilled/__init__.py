"""The distilled dataset: a few texts with their lineage, on disk and on the Hub."""

from dallme.distilled.dataset import DistilledDataset
from dallme.distilled.lineage import Lineage, trace

__all__ = ["DistilledDataset", "Lineage", "trace"]
