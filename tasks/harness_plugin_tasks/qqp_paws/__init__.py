"""Paraphrases told by word overlap: QQP, tested on PAWS."""
