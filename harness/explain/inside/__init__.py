"""Find the first node of an exported graph whose values differ from the float64 evaluation or from torch's modules."""
