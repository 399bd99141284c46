"""The processes that checks run in: how they start, what they may take, how they end."""
