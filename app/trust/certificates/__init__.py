"""Certificates: what is stated of a completed forget request, signed, and how a stranger verifies it."""
