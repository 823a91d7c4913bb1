"""What knows a bias: bias-only models, and groups inferred where no labels tell them."""
