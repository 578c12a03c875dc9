"""Losses: how far a student is from its teacher, per token."""
