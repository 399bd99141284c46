"""What a lower precision costs: ``harness sensitivity`` by layer, ``harness ladder`` by precision and runtime.

The command calls functions of this package in a separate process (:mod:`harness.explain.process`), one step at a time:
a library that crashes on one file costs that step alone. What a step measured is kept in a journal at once.
"""
