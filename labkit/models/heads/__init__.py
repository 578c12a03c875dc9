"""Draft heads on a frozen target: Medusa and EAGLE."""
