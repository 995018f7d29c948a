"""Values that flow through the whole system: geometry, images, samples, plans, errors; nothing here reads a file."""
