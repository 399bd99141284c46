"""What is measured rather than tested; each module is run by itself, ``python -m benchmarks.NAME``."""
