"""Further training rows for students: one small class each."""
