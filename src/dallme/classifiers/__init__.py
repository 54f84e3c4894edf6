"""Downstream classifiers that are trained on distilled texts; base.py holds their contract."""
