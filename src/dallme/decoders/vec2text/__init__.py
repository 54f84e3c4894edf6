"""vec2text: a language model conditioned on a vector writes a text near it, and corrects it step by step.

Reference: Morris, Kuleshov, Shmatikov, Rush, "Text Embeddings Reveal (Almost) As Much As Text", EMNLP 2023.
"""
