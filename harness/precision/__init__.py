"""What a lower precision costs: ``harness sensitivity``, layer by layer, and ``harness ladder``, precision by precision.

The command calls functions of this package in a separate process (:mod:`harness.explain.process`), one step at a time:
a library that crashes on one file costs that step alone. What a step measured is kept in a journal at once.
"""
