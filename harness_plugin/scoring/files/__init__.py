"""Predictions and scores as files: read, written, and put into columns."""
