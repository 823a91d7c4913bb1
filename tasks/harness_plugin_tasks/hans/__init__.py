"""NLI that trusts word overlap: trained on NLI, tested on HANS (McCoy et al. 2019)."""
