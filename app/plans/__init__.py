"""Plans: which methods would serve a request, in which order, and why not the others."""
