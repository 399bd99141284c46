"""How quick harness is: each file measures one thing beside what it is measured against."""
