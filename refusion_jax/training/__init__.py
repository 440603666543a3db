"""Training: the state, the jitted steps, the run directory and the loop of Algorithm 1."""
