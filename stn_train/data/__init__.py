"""Digits, their distortions, and the batches that reach a model."""
