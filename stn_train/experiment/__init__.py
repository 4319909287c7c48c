"""From specifications to trials, and from trials to a run's folder: the only room that knows all the others."""
