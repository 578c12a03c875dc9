"""The one loop, and what a step is made of."""
