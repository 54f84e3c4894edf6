"""Embedders, which turn texts into vectors; base.py holds their contract."""
