"""How long a call takes, honestly."""
