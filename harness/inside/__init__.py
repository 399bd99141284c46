"""Look inside a model: the layer table of an export against its reference, and the walk through an exported graph.

:mod:`harness.inside.table` makes the table. The reference records its calls (:mod:`harness.inside.torch_reference`,
:mod:`harness.inside.graph_reference`), the subject gives the values that belong to them (:mod:`harness.inside.pairing`,
:mod:`harness.inside.program`), and :mod:`harness.inside.judging` distinguishes rounding from a fault.
"""
