"""The small world: facts, free-text extraction, exam."""
