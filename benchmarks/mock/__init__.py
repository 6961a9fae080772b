"""The instant upstream that every measured thing stands in front of: ``upstream.c``, compiled at first use."""
