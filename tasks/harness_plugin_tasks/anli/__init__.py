"""Adversarial NLI: three rounds of pairs that models of their day got wrong (Nie et al. 2020)."""
