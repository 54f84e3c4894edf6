"""The command `dallme`: one file per verb."""
