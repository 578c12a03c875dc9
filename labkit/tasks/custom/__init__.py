"""Custom data: reading rows, content hashes, exam."""
