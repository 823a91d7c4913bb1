"""The hooks, and the registries of what plugins offer."""
