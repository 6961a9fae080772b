"""Wire formats: bytes in, a ``Call`` and its segments out; edits written back by pointer. One file a format."""

from gateway.wire.base import Call, Turn, WireFormat
from gateway.wire.chat import ChatCompletions

__all__ = ["Call", "ChatCompletions", "Turn", "WireFormat"]
