"""What a run gets from its teacher: signals, text, features, recorded answers, answers from endpoints."""
