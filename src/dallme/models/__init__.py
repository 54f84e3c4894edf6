"""Pretrained models: where they are and how their files are read, for embedders, classifiers and decoders alike."""
