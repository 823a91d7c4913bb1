"""What the tasks of natural language inference share: readers, cues, features, a grammar."""
