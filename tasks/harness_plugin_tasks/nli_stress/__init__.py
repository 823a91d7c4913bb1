"""NLI under distortions that leave the label as it is: the stress tests of Naik et al. (2018)."""
