"""Executors of studies beyond this machine."""
