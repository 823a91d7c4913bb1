"""NLI that reads the hypothesis only: SNLI and the pairs in which that fails."""
