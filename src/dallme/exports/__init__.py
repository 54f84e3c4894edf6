"""A distilled set in the formats of other tools."""
