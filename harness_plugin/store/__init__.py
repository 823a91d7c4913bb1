"""Stages: content-addressed, atomic, resumable folders."""
