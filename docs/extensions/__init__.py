"""Sphinx directives that generate text from harness itself, so the site always matches the code."""
