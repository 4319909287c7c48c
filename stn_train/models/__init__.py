"""Localisation networks, the spatial transformer, classifiers, and fitting a width to a parameter budget."""
