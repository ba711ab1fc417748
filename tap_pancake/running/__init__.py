"""Many pages at once, and the account of it."""
