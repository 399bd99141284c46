"""Measurements, as opposed to tests. Run a module with ``python -m benchmarks.NAME``."""
