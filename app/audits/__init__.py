"""Audits without unlearning: the service judges what it did not make itself."""
