"""Figures, animations and the HTML report. Input is numpy arrays and plain mappings."""
