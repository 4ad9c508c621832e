"""A planner that scores a vocabulary of trajectories, trained from simulated outcomes."""
