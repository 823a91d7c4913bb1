"""Fact verification read off the claim: FEVER, tested on FEVER-Symmetric."""
