"""Score, compare and look into: predictions, runs, models."""
