"""NLI that trusts surface cues: one training set, tested on released challenge sets."""
