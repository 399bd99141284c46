"""Holding one answer against another: structure first, then one metric a file, then the verdict. NumPy only."""
