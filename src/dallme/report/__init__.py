"""The report page, its parts, and exports of a set to the formats of other tools."""
