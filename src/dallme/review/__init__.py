"""Review of a distilled set in the browser: accept, edit, relabel, drop."""
