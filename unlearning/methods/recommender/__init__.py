"""Methods that make a recommender forget."""
