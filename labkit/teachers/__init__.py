"""What a teacher says: signals, text, features, recorded answers, endpoints."""
