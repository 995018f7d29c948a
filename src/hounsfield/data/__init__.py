"""From folders to batches: readers, splits, audits, the model grid, cache, augmentation, phantoms."""
