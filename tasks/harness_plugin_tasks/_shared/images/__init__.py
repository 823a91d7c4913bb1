"""What the image tasks share: image columns, drawings, readers of MNIST, bias features."""
