"""A distilled set in the formats of other tools: one table of them, and one small file a family."""

from dallme.exports.base import Export, Material
from dallme.exports.table import EXPORTS, find

__all__ = ["EXPORTS", "Export", "Material", "find"]
