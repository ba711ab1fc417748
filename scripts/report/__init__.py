"""The report: what the models hold, as one page."""
