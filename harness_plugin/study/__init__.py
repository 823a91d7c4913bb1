"""Studies: many runs planned at once, trained once where they are equal, on any executor."""
