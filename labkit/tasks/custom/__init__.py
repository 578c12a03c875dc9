"""A learner's own rows: reading, content hashes, exam."""
