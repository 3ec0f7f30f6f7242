"""The recommender family's audit."""
