"""The parts of suite token-entropy: methods, and how they are measured."""
