"""Bundles of results that can be checked, and the static page that ranks them."""
