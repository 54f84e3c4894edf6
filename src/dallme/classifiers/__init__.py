"""Downstream models that are trained on the few texts: the contract in base.py."""
