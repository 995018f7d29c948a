"""Results as DICOM objects that refer to the images they are of: segmentations, reports, maps of probabilities, pictures."""
