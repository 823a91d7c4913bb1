"""Waterbirds: land birds and water birds that a model reads off the background."""
