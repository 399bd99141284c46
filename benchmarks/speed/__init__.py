"""Measurements of the speed of harness, relative to other tools and to earlier runs."""
