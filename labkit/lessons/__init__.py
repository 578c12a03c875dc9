"""The lessons: what they open with, their predictions and their exercises."""
