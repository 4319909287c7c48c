"""How fast we are: ratios against named opponents, measured side by side in one run."""
