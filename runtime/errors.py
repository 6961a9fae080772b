"""Every error Watershed raises on purpose, and the HTTP status it becomes.

    WatershedError                      500  internal_error
    ├── ConfigurationError              500  (a process refuses to start; CLI exit code 2)
    ├── RequestError                    400  the caller can mend it
    │   ├── InvalidRequestError         400
    │   ├── AuthenticationError         401
    │   ├── PermissionDeniedError       403
    │   │   └── PolicyRefusedError      403  a rule says reject
    │   ├── NotFoundError               404
    │   ├── MethodNotAllowedError       405
    │   ├── PayloadTooLargeError        413
    │   └── RateLimitedError            429
    ├── UnavailableError                503  with Retry-After; SDKs try again
    │   └── TargetError                 503  one target failed: another may be tried
    ├── UpstreamError                   502  a target answered with something that cannot be passed on
    ├── DeadlineExceededError           504
    └── IntegrityError                  500  a signature, seal or log does not hold: fail closed
        ├── AuditError
        ├── ClearanceError
        └── SealingError

Messages carry codes and JSON pointers, never a value from a request (docs/threat-model.md, rule 11).
"""

from __future__ import annotations

from typing import ClassVar


class WatershedError(Exception):
    """Base of the tree.

    Attributes:
        status: HTTP status the gateway answers with.
        type: OpenAI's error type.
        code: a stable, machine-readable cause.
        param: JSON pointer to the field at fault, where there is one.
        retry_after_s: seconds after which another try makes sense, where that is known.
    """

    status: ClassVar[int] = 500
    type: ClassVar[str] = "api_error"
    default_code: ClassVar[str] = "internal_error"

    def __init__(
        self, message: str, *, code: str | None = None, param: str | None = None, retry_after_s: float | None = None
    ) -> None:
        super().__init__(message)
        self.message = message
        self.code = code or self.default_code
        self.param = param
        self.retry_after_s = retry_after_s


class ConfigurationError(WatershedError):
    default_code = "configuration_error"


class RequestError(WatershedError):
    status = 400
    type = "invalid_request_error"
    default_code = "invalid_request"


class InvalidRequestError(RequestError):
    """The request cannot be read, or asks for what is not offered."""


class AuthenticationError(RequestError):
    status = 401
    type = "authentication_error"
    default_code = "invalid_api_key"


class PermissionDeniedError(RequestError):
    status = 403
    type = "permission_error"
    default_code = "permission_denied"


class PolicyRefusedError(PermissionDeniedError):
    """A policy rule rejects the request; ``message`` names the rule and the remedy."""

    default_code = "policy_refused"


class NotFoundError(RequestError):
    status = 404
    default_code = "not_found"


class MethodNotAllowedError(RequestError):
    status = 405
    default_code = "method_not_allowed"


class PayloadTooLargeError(RequestError):
    status = 413
    default_code = "payload_too_large"


class RateLimitedError(RequestError):
    status = 429
    type = "rate_limit_error"
    default_code = "rate_limit_exceeded"


class UnavailableError(WatershedError):
    status = 503
    default_code = "unavailable"


class TargetError(UnavailableError):
    """One target could not be reached, or broke before the first byte of an answer."""

    default_code = "target_unavailable"


class UpstreamError(WatershedError):
    status = 502
    default_code = "upstream_error"


class DeadlineExceededError(WatershedError):
    status = 504
    type = "timeout_error"
    default_code = "deadline_exceeded"


class IntegrityError(WatershedError):
    default_code = "integrity_error"


class AuditError(IntegrityError):
    """The audit log cannot take an event; without it no traffic passes."""

    status = 503
    default_code = "audit_unavailable"


class ClearanceError(IntegrityError):
    """No valid clearance: nothing crosses."""

    default_code = "clearance_refused"


class SealingError(IntegrityError):
    default_code = "seal_broken"
