"""Datasets and their snapshots: registering, growing, looking up."""
