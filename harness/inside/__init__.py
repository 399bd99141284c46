"""Look inside a model: the layer table of an export against its reference, and the walk through an exported graph.

:mod:`harness.inside.table` makes the table. The reference records its calls (:mod:`harness.inside.torch_reference`),
the subject gives the values that belong to them (:mod:`harness.inside.program`); an ONNX file can be both
(:mod:`harness.inside.onnx_file`). :mod:`harness.inside.judging` distinguishes rounding from a fault.
"""
