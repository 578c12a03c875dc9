"""Speculative decoding: drafts and draft heads propose tokens, and the target accepts or rejects them."""
