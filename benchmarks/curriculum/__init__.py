"""The parts of suite curriculum: random steps of QARL's curriculum, and two solvers for them."""
