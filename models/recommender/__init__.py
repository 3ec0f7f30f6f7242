"""Recommenders: who has taken what, and models that rank what each may want next."""
