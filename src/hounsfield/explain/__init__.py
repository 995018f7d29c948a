"""Explanations of what a model looked at."""
