"""Decoding several tokens a pass of the target: drafts and heads that guess, and the target that verifies."""
