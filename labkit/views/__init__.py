"""Views: figures, reports, the live board, lenses."""
