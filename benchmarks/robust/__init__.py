"""Training against adversaries, and how much of its return a policy keeps when the world is another."""
