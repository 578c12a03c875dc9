"""What was asked, what happened, what is kept: recipes, events, records (no torch)."""
