"""Requests to the Pancake API: tokens, pace, transport and errors."""
