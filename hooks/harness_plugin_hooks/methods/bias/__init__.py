"""Models of a bias: bias-only models, and groups inferred where none are labelled."""
