"""Exported files, kept by what they were made from."""
