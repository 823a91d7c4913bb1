"""Texts of a user's own table."""
