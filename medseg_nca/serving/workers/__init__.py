"""Processes that hold the models and compute, one or more for each device."""
