"""Toxicity read off mentions of people: CivilComments as WILDS splits it."""
