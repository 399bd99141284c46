"""Where checks run: contained workers, and the artifact cache."""
