"""How long a training step takes: each method in a process of its own, and the processes asked in turn."""
