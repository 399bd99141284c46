"""Which node of an exported graph is the first that is off: node by node, beside torch's own values."""
