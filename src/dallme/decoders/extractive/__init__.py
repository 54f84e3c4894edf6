"""Texts assembled from sentences of the source, chosen by static or adaptive word weights."""
