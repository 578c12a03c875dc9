"""Recipes, the events of a run, and records of runs (no torch)."""
