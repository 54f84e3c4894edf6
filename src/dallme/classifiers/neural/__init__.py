"""Classifiers that are trained by gradient descent: TextCNN, TextRNN, and pretrained transformers (Appendix A.2 to A.5)."""
