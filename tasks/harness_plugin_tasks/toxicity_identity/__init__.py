"""Toxicity read off mentions of people: Davidson's tweets, tested on HateCheck and templates."""
