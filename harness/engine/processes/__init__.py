"""The processes that checks run in: their start, their limits, their end."""
