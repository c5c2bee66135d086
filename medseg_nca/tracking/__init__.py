"""MLflow: what a run leaves in a tracking store, and the registry of models."""
