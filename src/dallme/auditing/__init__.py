"""What a distilled set copies, leaks and gets wrong, beside the source it was made from."""
