"""A ladder of small trainings: which rungs it has, what they were, and what follows from them."""
