"""Experiments: a TOML file becomes a grid of cells, each cell one row of results, the rows a page beside the paper's."""
