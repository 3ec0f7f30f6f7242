"""Backups in which people's data is sealed under keys that are kept elsewhere and die with the data."""
