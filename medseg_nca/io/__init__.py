"""Files to arrays with geometry, and back."""
