"""Engines: run chunks of work in this process, or on the machines of a Ray cluster."""
