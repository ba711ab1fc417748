"""A server that behaves like the Pancake inbox API, for the tests and the demo.

Written from public sources on the API, and not from the tap, so that the two can disagree.
"""

from __future__ import annotations

from .account import Account, Conversation, Expected, Message, Page
from .server import Answer, Call, Fault, PancakeServer
from .world import World, is_first_batch, is_head

__all__ = [
    "Account",
    "Answer",
    "Call",
    "Conversation",
    "Expected",
    "Fault",
    "Message",
    "Page",
    "PancakeServer",
    "World",
    "is_first_batch",
    "is_head",
]
