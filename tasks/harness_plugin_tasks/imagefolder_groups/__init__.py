"""Images named in a user's own table."""
