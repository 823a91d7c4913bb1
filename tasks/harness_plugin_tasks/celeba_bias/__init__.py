"""CelebA: a label (hair colour) that a model reads off another attribute (gender)."""
