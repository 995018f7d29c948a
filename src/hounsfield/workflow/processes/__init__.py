"""A training in several processes, each with a device of its own: how they start, what they do together, and how they fail."""
