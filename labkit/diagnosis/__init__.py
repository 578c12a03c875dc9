"""Failures of distillation: how to cause, detect and cure them."""
