"""One training loop for every task: optimiser, average of weights, checkpoints, divergence guard."""
