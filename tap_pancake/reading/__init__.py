"""How a list is read whole, and what was read."""
