"""Training with verifiable rewards as a command and as a suite."""
