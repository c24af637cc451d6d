"""Specs as data: what a run is made of, its options, recipes and folder."""
