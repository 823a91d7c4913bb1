"""Tasks, their data sources, and the splits they load."""
