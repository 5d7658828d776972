"""Training: from a config to weights, on whatever devices there are."""
