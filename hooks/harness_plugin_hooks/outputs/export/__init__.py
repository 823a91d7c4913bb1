"""From a run to one model as a folder, and to the hub."""
