"""The form of what is written."""
