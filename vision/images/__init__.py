"""Images as tensors: data sets, networks, corruptions and plain classification."""
