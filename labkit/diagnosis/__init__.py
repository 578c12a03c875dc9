"""Where distillation breaks, and how one finds out."""
