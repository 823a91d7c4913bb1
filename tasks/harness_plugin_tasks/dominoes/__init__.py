"""Dominoes: a vehicle below, read off the digit above it."""
