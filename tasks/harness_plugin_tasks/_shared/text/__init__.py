"""Shared by the text tasks: readers of NLI corpora and CAD, cues, features, a grammar."""
