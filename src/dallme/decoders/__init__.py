"""Decoders, which turn prototypes into texts; base.py holds their contract."""
