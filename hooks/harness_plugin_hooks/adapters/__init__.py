"""The tasks inside other harnesses."""
