"""Small models of one operator each: ONNX's own tests at every opset, and models made here."""
