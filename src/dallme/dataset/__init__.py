"""The distilled dataset: a few texts with their lineage, on disk and on the Hub."""

from dallme.dataset.distilled import DistilledDataset, Lineage, trace

__all__ = ["DistilledDataset", "Lineage", "trace"]
