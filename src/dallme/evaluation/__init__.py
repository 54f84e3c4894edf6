"""Evaluation of distilled data: protocols, metrics, comparison tables and budget curves."""
