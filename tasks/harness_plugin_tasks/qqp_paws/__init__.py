"""Paraphrases guessed by word overlap: QQP, tested on PAWS."""
