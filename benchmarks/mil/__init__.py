"""Multiple instance learning: training and testing by cross-validation, as the command does it."""
