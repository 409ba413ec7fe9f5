"""Task scores: from loss, from size, from the number of samples."""
