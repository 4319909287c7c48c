"""Training: step, schedule, averaging, checkpoints, exact resume. Yields records, never prints."""
