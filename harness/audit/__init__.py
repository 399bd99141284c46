"""Which cases could not tell a wrong layer from the right one: each layer is replaced by its wrong mutants in turn."""
