"""Compare an answer with its reference: structure first, then the tolerance rule, then the metrics. NumPy only.

:func:`harness.compare.verdict.compare` compares two answers. :func:`harness.compare.verdict.distances` tells which of
two answers is closer to the float64 reference. :func:`harness.compare.rules.strict_ulp` tightens a tolerance.
"""
