"""Speculative decoding as distillation: drafts and heads that guess what a target will say, and the target that checks them."""
