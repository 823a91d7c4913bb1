"""What several tasks share: files, options and cues here, texts, images and own tables below."""
