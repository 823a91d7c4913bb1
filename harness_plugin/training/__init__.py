"""The contracts of methods and distillers, and the one training loop."""
