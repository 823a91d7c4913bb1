"""NLI that reads the hypothesis only: MultiNLI and the pairs in which that fails."""
