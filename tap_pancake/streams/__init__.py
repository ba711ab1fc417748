"""The streams, by family. A stream class states facts; what they mean is elsewhere."""

from tap_pancake.streams.conversations import ConversationsStream
from tap_pancake.streams.messages import MessagesStream
from tap_pancake.streams.pages import PagesStream

__all__ = ["STREAMS", "ConversationsStream", "MessagesStream", "PagesStream"]

STREAMS = (PagesStream, ConversationsStream, MessagesStream)
