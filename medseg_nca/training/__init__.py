"""The training loop of every task: optimiser, average of the weights, checkpoints, guard."""
