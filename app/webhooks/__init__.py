"""Webhooks: who is told what becomes of forget requests, and how (https://www.standardwebhooks.com)."""
