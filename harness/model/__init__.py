"""From a case to a built torch module with its inputs and its reference answers."""
