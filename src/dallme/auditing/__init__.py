"""The audit of a distilled set: copied spans, personal data, and suspicious labels of set and source."""
