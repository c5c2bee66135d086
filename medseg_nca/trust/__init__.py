"""How good a segmentation probably is: corruptions, features, the estimate and its gate."""
