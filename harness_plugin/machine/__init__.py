"""The machine: its settings, its processes, and leaving it as it was."""
