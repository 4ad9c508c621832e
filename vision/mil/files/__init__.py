"""Feature files of slides, their labels, and both together as a data set."""
