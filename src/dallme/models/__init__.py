"""Pretrained models: locating, checking and loading their files, for embedders, classifiers and decoders."""
