"""Faults that are planted where a real one could be, and an independent test of their effect."""
