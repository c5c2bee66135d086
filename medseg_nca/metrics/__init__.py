"""How well a segmentation agrees with the truth: per case, and over all cases."""
