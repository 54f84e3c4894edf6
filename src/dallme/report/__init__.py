"""The page that shows a distilled set: one file that needs no network."""
