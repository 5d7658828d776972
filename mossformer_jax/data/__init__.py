"""Training and test data: corpora, mixing, crops and batches."""
