"""The figures of a run's report; drawing.py holds what they share."""
