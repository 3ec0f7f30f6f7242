"""Whether the process lives, whether it can serve, and what it counts."""
