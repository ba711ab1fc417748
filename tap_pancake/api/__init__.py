"""One call to Pancake, and what its answer means."""
