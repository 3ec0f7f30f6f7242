"""Graphs: nodes with features and labels, edges between them, and networks that pass messages along the edges."""
