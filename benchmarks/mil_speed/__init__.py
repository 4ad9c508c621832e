"""Time and memory of packed bags against a loop over bags and against padding."""
