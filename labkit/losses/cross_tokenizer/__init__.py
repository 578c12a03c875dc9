"""Distillation across tokenizers: shared spans, and one loss term an alignment."""
