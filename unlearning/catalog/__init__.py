"""Torch-free: every method that is installed."""
