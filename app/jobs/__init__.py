"""Jobs of the worker, as clients see them."""
