"""Condensers, which reduce many vectors to a few prototypes; base.py holds their contract."""
