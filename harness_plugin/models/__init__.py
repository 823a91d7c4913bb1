"""A name or a checkpoint as a classifier, its processor and its insides."""
