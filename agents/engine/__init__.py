"""The engine: a whole update of an agent as one compiled function over the networks' own tensors."""
