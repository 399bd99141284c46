"""Look inside a model: the layer table of an export against its reference, and the walk through an exported graph.

:mod:`harness.inside.table` makes the table. The reference records its calls (:mod:`harness.inside.torch_reference`,
:mod:`harness.inside.file_reference`), the subject gives the values that belong to them (:mod:`harness.inside.graph`,
:mod:`harness.inside.program`), and :mod:`harness.inside.judging` tells rounding from a fault.
"""
