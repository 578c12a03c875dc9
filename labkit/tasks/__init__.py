"""Questions and the scoring of answers: the small world Atlas, custom rows, metrics."""
