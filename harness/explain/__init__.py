"""``harness explain``: find out why one check fails.

Torch and the runtimes are loaded in a separate process only, and that process returns plain data. So a check that
crashes its process can be explained too.
"""
