"""One training loop for every task: optimiser, weight average, checkpoints, guard."""
