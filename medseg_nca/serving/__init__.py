"""The HTTP service: registered models for the tools of clinicians."""
