"""What aiokafka raises, as errors of ours. Its texts, which name topics and hosts, are not kept."""

from __future__ import annotations

from aiokafka.errors import GroupAuthorizationFailedError, MessageSizeTooLargeError, TopicAuthorizationFailedError

from runtime.errors import ConfigurationError, PayloadTooLargeError, TargetError, WatershedError


def refusal(error: Exception) -> WatershedError:
    """The error that stands for one of aiokafka's, or for a deadline that passed in it."""
    if isinstance(error, TopicAuthorizationFailedError | GroupAuthorizationFailedError):
        return ConfigurationError("no ACL of the brokers allows this", code="kafka_forbidden")
    if isinstance(error, MessageSizeTooLargeError):
        return too_large()
    return TargetError(
        f"the brokers cannot be used: {type(error).__name__}", code="bridge_unavailable", retry_after_s=1.0
    )


def too_large() -> PayloadTooLargeError:
    return PayloadTooLargeError("the request is larger than a message of the crossing", code="messagetoo_large")
