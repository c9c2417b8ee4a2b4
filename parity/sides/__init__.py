"""How a side of a case is run."""
