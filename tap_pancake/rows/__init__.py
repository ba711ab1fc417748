"""Rows: from the API's JSON to the records that the tap writes."""
