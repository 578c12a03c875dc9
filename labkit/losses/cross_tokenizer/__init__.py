"""Cross-tokenizer distillation: shared spans, and one loss term per alignment."""
