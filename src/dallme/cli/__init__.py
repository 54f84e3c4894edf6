"""The command `dallme`: one file a verb."""
