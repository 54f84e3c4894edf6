"""Many vectors to a few prototypes: one condenser a file, the contract in base.py."""
