"""Audit policies: what is demanded of audits, for a family, for a model, and in effect."""
