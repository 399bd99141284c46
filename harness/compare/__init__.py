"""Holding one answer against another: structure first, then one metric a file, then the verdict. NumPy only.

:func:`harness.compare.verdict.compare` gives the verdict, :func:`harness.compare.verdict.distances` says who is nearer
to the truth, and :func:`harness.compare.rules.strict_ulp` makes a tolerance strict.
"""
