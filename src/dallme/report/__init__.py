"""The report: one HTML page on a distilled set, which needs no network, and exports to other formats."""
