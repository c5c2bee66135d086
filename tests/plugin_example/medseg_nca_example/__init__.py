"""One of each thing that can be added to medseg_nca from outside."""
