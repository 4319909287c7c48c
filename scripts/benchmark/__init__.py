"""How fast we are: ratios against named baselines, measured side by side in one run."""
