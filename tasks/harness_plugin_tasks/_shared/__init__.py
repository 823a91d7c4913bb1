"""Shared by several tasks: files, options and cues here, texts, images and own tables below."""
