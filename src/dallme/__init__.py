"""Text dataset distillation: many labelled texts in, a few readable ones out."""

__version__ = "0.1.0"
