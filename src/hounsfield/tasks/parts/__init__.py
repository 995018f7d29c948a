"""Losses and windowed inference that several tasks share."""
