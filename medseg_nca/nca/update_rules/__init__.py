"""Update rules: from what a cell perceives to its change; one file each, and ``base``, the seam."""
