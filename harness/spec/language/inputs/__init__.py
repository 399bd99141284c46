"""The inputs and tensors of a spec: shapes, fills, files, samples and draws."""
