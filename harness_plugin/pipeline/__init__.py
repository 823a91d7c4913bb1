"""A run from task to outputs."""
