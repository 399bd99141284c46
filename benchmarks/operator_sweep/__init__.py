"""Finds out for which operators the float64 evaluation agrees with ONNX Runtime."""
