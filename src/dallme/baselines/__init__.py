"""Baselines that a distilled dataset is compared with; base.py holds their contract."""
