"""Prototypes to texts: one decoder a file, the contract in base.py."""
