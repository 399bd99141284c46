"""The spec language: its schema, and the resolved cases made from it."""
