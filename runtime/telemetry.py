"""Logs and metrics, set up once per process. Neither ever holds content: codes, ids, counts and times only."""

from __future__ import annotations

import logging
import sys
from pathlib import Path
from traceback import extract_tb
from typing import Literal

import structlog
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from structlog.typing import EventDict

REGISTRY = CollectorRegistry(auto_describe=True)

_LATENCY_BUCKETS_S = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120)

REQUESTS = Counter(
    "watershed_requests_total",
    "Requests by endpoint, route and HTTP status.",
    ["endpoint", "route", "status"],
    registry=REGISTRY,
)
IN_FLIGHT = Gauge("watershed_requests_in_flight", "Requests being worked on.", registry=REGISTRY)
REQUEST_SECONDS = Histogram(
    "watershed_request_duration_seconds", "From the first byte in to the last byte out.", ["endpoint", "route"],
    buckets=_LATENCY_BUCKETS_S, registry=REGISTRY,
)  # fmt: skip
STAGE_SECONDS = Histogram(
    "watershed_stage_duration_seconds", "Time in one stage of the pipeline.", ["stage"],
    buckets=_LATENCY_BUCKETS_S, registry=REGISTRY,
)  # fmt: skip
FINDINGS = Counter("watershed_findings_total", "Findings by entity type.", ["entity_type"], registry=REGISTRY)
CLASSIFIER_FAILURES = Counter(
    "watershed_classifier_failures_total", "Detectors that raised or ran over the budget; each made its request restricted.",
    ["cause"], registry=REGISTRY,
)  # fmt: skip
ATTEMPTS = Counter(
    "watershed_target_attempts_total", "Calls of a target by outcome.", ["target", "outcome"], registry=REGISTRY
)
CLEARANCES = Counter("watershed_clearances_total", "Clearances by outcome.", ["outcome"], registry=REGISTRY)
AUDIT_EVENTS = Counter("watershed_audit_events_total", "Durable audit events by kind.", ["kind"], registry=REGISTRY)
POLICY_RELOADS = Counter("watershed_policy_reloads_total", "Policy reloads by outcome.", ["outcome"], registry=REGISTRY)


def _trace(_logger: object, _method: str, event: EventDict) -> EventDict:
    """Where an exception was raised: classes and lines. Its text and the frames' locals may quote a request."""
    error = event.pop("exc_info", None)
    if error is True:
        error = sys.exc_info()[1]
    if isinstance(error, BaseException):
        event["trace"] = [
            f"{Path(frame.filename).name}:{frame.lineno} {frame.name}" for frame in extract_tb(error.__traceback__)
        ] + [type(error).__name__]
    return event


def set_up_logging(level: str = "info", style: Literal["auto", "console", "json"] = "auto") -> None:
    """Structured logs on standard error: one JSON object a line, or coloured text on a terminal."""
    console = style == "console" or (style == "auto" and sys.stderr.isatty())
    numeric = logging.getLevelNamesMapping()[level.upper()]
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            _trace,
            structlog.dev.ConsoleRenderer() if console else structlog.processors.JSONRenderer(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(numeric),
        logger_factory=structlog.WriteLoggerFactory(file=sys.stderr),
        cache_logger_on_first_use=True,
    )
    logging.basicConfig(
        level=max(numeric, logging.WARNING), stream=sys.stderr, format="%(levelname)s %(name)s %(message)s"
    )
