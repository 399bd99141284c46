"""The words of a spec: what each means, and the case that they make."""
