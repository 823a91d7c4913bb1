"""Shared by the image tasks: image columns, drawings, readers of MNIST, bias features."""
