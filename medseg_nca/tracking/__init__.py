"""MLflow: runs in a tracking store, and the registry of models."""
