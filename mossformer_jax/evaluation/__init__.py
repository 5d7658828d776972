"""Evaluation of models and of separated files with the metrics that papers report."""
