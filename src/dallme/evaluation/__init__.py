"""What a few texts are worth: the protocols, their metrics and the honest table."""
