"""The Python API: its functions, what their keywords stand for, what they give."""
