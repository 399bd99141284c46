"""Runs the same checks on two revisions of harness and compares every row. A refactor must change none."""
