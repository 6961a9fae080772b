"""The tables of settings, metrics and error codes agree with the code."""

from __future__ import annotations

import re
from typing import Any

import typer.main

from gateway.cli import app
from runtime import errors, telemetry
from runtime.errors import ConfigurationError, WatershedError
from runtime.settings import Settings
from tests.docs.documents import ROOT, code_words, table

README = ROOT / "README.md"
NOT_FOR_CALLERS = {ConfigurationError.default_code}


def setting_rows() -> dict[str, list[str]]:
    return {code_words(row[0])[0]: row for row in table(README, "settings", "end of settings")}


def test_every_setting_is_in_the_table_in_the_order_of_the_code() -> None:
    assert list(setting_rows()) == list(Settings.model_fields)


def test_defaults_are_those_of_the_code() -> None:
    for name, row in setting_rows().items():
        default = Settings.model_fields[name].default
        if name == "state_dir":
            assert row[2] == "`~/.local/share/watershed`"
        elif default is None:
            assert row[2] == "", name
        else:
            shown = f"{default:g}" if isinstance(default, float) else str(default)
            assert row[2] == f"`{shown}`", name
        assert row[3], f"{name} has no meaning"


def test_flags_are_those_of_serve() -> None:
    serve: Any = typer.main.get_command(app).commands["serve"]  # type: ignore[attr-defined]
    flags = {parameter.name: f"`{parameter.opts[0]}`" for parameter in serve.params}
    assert {name: row[1] for name, row in setting_rows().items() if row[1]} == flags


def test_metrics_are_those_of_the_code() -> None:
    shown = {
        code_words(row[0])[0]: set(filter(None, row[1].replace(" ", "").split(",")))
        for row in table(ROOT / "docs" / "operations.md", "metrics", "end of metrics")
    }
    collectors = [value for value in vars(telemetry).values() if hasattr(value, "_labelnames")]
    built = {}
    for collector in collectors:
        (family,) = collector.describe()
        name = f"{family.name}_total" if family.type == "counter" else family.name
        built[name] = set(collector._labelnames)
    assert shown == built


def code_rows() -> dict[str, int]:
    rows = table(ROOT / "docs" / "api.md", "codes", "end of codes")
    return {code: int(row[0]) for row in rows for code in code_words(row[1])}


def tree(cls: type[WatershedError] = WatershedError) -> list[type[WatershedError]]:
    return [cls, *(below for sub in cls.__subclasses__() if sub.__module__ == errors.__name__ for below in tree(sub))]


def test_the_error_tree_is_documented_with_its_statuses() -> None:
    codes = code_rows()
    for cls in tree():
        if cls.default_code not in NOT_FOR_CALLERS:
            assert codes.get(cls.default_code) == cls.status, cls.__name__


def test_every_code_the_gateway_gives_is_documented_and_every_documented_one_is_given() -> None:
    gateway = [
        path
        for path in (ROOT / "gateway").rglob("*.py")
        if "cli" not in path.parts and not path.name.startswith(("authority", "attestation"))
    ]
    given = "\n".join(path.read_text(encoding="utf-8") for path in gateway)
    codes = code_rows()
    for code in set(re.findall(r'\bcode="(\w+)"', given)) | set(re.findall(r'Refused\(\s*"(\w+)"', given)):
        assert code in codes, f"{code} is not in docs/api.md"
    givers = [
        path
        for name in ("gateway", "runtime", "cloud_bridge", "local_inference")
        for path in (ROOT / name).rglob("*.py")
    ]
    known = "\n".join(path.read_text(encoding="utf-8") for path in givers)
    for code in codes:
        assert f'"{code}"' in known, f"docs/api.md has {code}, which nothing gives"
