"""JSON schemas, one for each stream: the fields of the API, their types and meanings."""
