"""The hook implementations this distribution ships, one concern a module."""
