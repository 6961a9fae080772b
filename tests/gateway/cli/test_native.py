"""``up``, ``down``, ``status`` and ``certs`` where there is no stack; with one they are tested in tests/system."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from deploy import certificates, topology
from deploy.native import state
from gateway.cli import app
from runtime.errors import ConfigurationError


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("WATERSHED_STATE_DIR", str(tmp_path))
    return tmp_path


@pytest.mark.parametrize("command", [["status"], ["down"], ["certs", "show"], ["certs", "revoke", "node-a"]], ids=str)
def test_without_a_stack_the_commands_say_so(command: list[str]) -> None:
    result = CliRunner().invoke(app, command)
    assert isinstance(result.exception, ConfigurationError)
    assert result.exception.code == "stack_unknown"


def test_status_shows_every_service_of_a_stack_that_was_stopped(tmp_path: Path) -> None:
    state.create(tmp_path, topology.small())
    result = CliRunner().invoke(app, ["status"])
    assert result.exit_code == 0
    for service in topology.small():
        assert service.name in result.output
    assert "stopped" in result.output


def test_certificates_are_shown_with_their_revocation(tmp_path: Path) -> None:
    site = state.create(tmp_path, topology.small())
    certificates.issue(site.certificates_dir, site.topology.identities())
    assert CliRunner().invoke(app, ["certs", "revoke", "node-a"]).exit_code == 0
    shown = CliRunner().invoke(app, ["certs", "show", "--json"]).output
    assert shown.count('"revoked_at": null') == len(site.topology.identities()) - 1


def test_down_with_wipe_leaves_nothing(tmp_path: Path) -> None:
    state.create(tmp_path, topology.small())
    assert CliRunner().invoke(app, ["down", "--wipe"]).exit_code == 0
    assert not (tmp_path / "stack").exists()


def test_an_unknown_service_is_refused(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["up", "--small", "nonsense"])
    assert isinstance(result.exception, ConfigurationError)
    assert result.exception.code == "service_unknown"
