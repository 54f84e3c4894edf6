"""Experiments: TOML files define grids of runs; the rows of their results give tables and figures."""
