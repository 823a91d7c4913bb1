"""Coloured MNIST: a digit that a model reads off its colour."""
