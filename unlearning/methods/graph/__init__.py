"""Methods of the graph family."""
