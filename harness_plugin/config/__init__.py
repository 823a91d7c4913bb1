"""Settings, how they are merged, and the roles they resolve to."""
