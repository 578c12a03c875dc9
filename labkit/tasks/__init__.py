"""What is asked and how answers are judged: Atlas, rows of one's own, metrics."""
