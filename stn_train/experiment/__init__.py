"""From specifications to trials, and from trials to a run's folder: it knows all rooms but those that report."""
