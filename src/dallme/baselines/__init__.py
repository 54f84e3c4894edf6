"""What a distilled set must beat: one baseline a file, the contract in base.py."""
