"""YAML 1.2 and JSON, read with line and column."""
