"""Runs ``harness sensitivity`` and ``harness ladder`` on models of several kinds, and writes the report on them."""
