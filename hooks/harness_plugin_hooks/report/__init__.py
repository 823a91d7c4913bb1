"""`harness report`: a run as one page that asks nobody for anything, and its figures as files."""
