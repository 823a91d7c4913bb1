"""FairFace: young or old, read off the gender of a face."""
