"""Measure, decide, write down: from a dataset to a plan."""
