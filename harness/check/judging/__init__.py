"""What a check is judged by: the comparison, derived tolerances, and what example values were baked in."""
