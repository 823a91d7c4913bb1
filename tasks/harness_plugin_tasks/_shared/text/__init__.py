"""What the text tasks share: readers of NLI corpora and CAD, cues, features, a grammar."""
