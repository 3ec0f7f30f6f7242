"""Forget requests: validation, storage, states and history."""
