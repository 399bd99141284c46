"""Bundles: packed cases with their exported files and references."""
