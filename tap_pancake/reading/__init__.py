"""Reading a list or statistics of a page completely, and recording what was read."""
