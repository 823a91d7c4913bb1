"""Sentiment of film reviews trusted through their genre: original reviews, revised reviews."""
