"""Candidate spurious attributes of a data set: what alone tells the label, from the surface."""
