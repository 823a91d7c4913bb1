"""Corrupted CIFAR-10: what a picture shows, read off how it was corrupted."""
