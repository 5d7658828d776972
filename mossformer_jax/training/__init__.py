"""Training: from a config to weights, on all available devices."""
