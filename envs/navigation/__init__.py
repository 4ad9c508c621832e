"""A disc that drives among obstacles to a goal: maps, model, environment, simulated plans."""
