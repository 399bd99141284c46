"""Walk through an exported graph node by node, to the first one that differs from float64 or from torch's modules."""
