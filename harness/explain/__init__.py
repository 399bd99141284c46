"""``harness explain``: one check that fails, understood.

What a worker finds out is plain data; this room's own process never loads torch, so that a check that takes its
process down is explained too.
"""
