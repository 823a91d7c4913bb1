"""Hand on: a model, a run as a bundle, a page of many."""
