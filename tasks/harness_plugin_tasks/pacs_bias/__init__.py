"""PACS: what a picture shows, read off its style."""
