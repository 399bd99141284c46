"""From a case to a built torch module, its inputs and its reference outputs."""
