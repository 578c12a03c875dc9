"""The lessons: what they open with, predictions, exercises."""
