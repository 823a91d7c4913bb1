"""One model of a document, and its writers: HTML, Markdown and the terminal."""
