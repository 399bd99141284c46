"""Faults that are planted where a real one could be, and a judge of their own for what they did."""
