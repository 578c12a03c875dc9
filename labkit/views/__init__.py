"""What is seen: figures, reports, the live board, lenses."""
