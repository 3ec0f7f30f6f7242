"""The graph family's audit: nodes and edges, looked at in the graph as it now is and with what was deleted put back."""
