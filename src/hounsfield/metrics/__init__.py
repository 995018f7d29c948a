"""Measures, each a pure function tested against an independent oracle."""
