"""Corrected lowerings, one a file, for what a stock exporter gets wrong or refuses."""
