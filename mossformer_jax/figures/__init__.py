"""Figures: spectrograms of recordings, and training curves."""
