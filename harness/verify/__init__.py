"""One check from end to end: a case on a target, from the built module to the result."""
