"""Evaluation: what a model is worth, in the figures that papers report."""
