"""The planner of the suite adaptation: made once for each seed, and what its episodes say."""
