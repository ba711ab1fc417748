"""Reading many pages in parallel, and the report on it."""
