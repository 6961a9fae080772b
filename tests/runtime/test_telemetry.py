"""Logs say where a fault arose and never what was being worked on."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Literal

import pytest
import structlog

from runtime.telemetry import set_up_logging

CANARY = "canary-7f3a"


@pytest.fixture(autouse=True)
def logging_restored() -> Iterator[None]:
    yield
    structlog.reset_defaults()


def fail_with(text: str) -> None:
    held = {"content": text}
    raise ValueError(f"cannot read {held['content']}")


@pytest.mark.parametrize("style", ["json", "console"])
def test_neither_an_exceptions_text_nor_a_frames_locals_are_logged(
    style: Literal["json", "console"], capsys: pytest.CaptureFixture[str]
) -> None:
    set_up_logging(style=style)
    try:
        fail_with(CANARY)
    except ValueError:
        structlog.get_logger().error("request failed", exc_info=True)
    written = capsys.readouterr().err
    assert "fail_with" in written
    assert "ValueError" in written
    assert CANARY not in written


def test_json_is_one_object_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    set_up_logging(style="json")
    try:
        fail_with(CANARY)
    except ValueError as error:
        structlog.get_logger().error("request failed", exc_info=error)
    (line,) = capsys.readouterr().err.splitlines()
    assert json.loads(line)["trace"][-1] == "ValueError"
