"""One case from its files to its results: found, read, predicted, evaluated, prepared, written."""
