"""Saved files to tables, verdicts and figures. Torch-free; can be run again without training."""
