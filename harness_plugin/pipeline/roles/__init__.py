"""One role of one seed: its rows, what its teachers give on them, its training, its predictions."""
