"""Which node of a graph is the first that differs."""
