"""Settings: file, environment and flags; faults named without their values."""

from __future__ import annotations

from pathlib import Path

import pytest

from runtime.errors import ConfigurationError
from runtime.settings import load, read_secret


def test_flags_beat_the_environment_and_the_environment_beats_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tmp_path / "watershed.toml"
    config.write_text("port = 1000\nhold_s = 1.0\nmax_messages = 10\n")
    monkeypatch.setenv("WATERSHED_CONFIG", str(config))
    monkeypatch.setenv("WATERSHED_PORT", "2000")
    monkeypatch.setenv("WATERSHED_HOLD_S", "2.0")
    settings = load(port=3000)
    assert (settings.port, settings.hold_s, settings.max_messages) == (3000, 2.0, 10)


def test_the_operators_port_is_the_next_one() -> None:
    assert load(port=9000).resolved_admin_port == 9001
    assert load(port=9000, admin_port=7).resolved_admin_port == 7


def test_the_state_lives_where_the_environment_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WATERSHED_STATE_DIR", str(tmp_path))
    assert load().state_dir == tmp_path
    monkeypatch.delenv("WATERSHED_STATE_DIR")
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "xdg"))
    assert load().state_dir == tmp_path / "xdg" / "watershed"


def test_a_fault_is_named_without_its_value(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WATERSHED_PORT", "secret-value")
    with pytest.raises(ConfigurationError) as refused:
        load()
    assert "port" in refused.value.message
    assert "secret-value" not in refused.value.message
    monkeypatch.setenv("WATERSHED_CONFIG", str(tmp_path / "none.toml"))
    with pytest.raises(ConfigurationError, match="names no file"):
        load()


def test_a_secret_is_the_first_line_of_its_file(tmp_path: Path) -> None:
    path = tmp_path / "key"
    path.write_text("  sk-1 \nsecond\n")
    path.chmod(0o600)
    assert read_secret(path) == "sk-1"
    assert read_secret(None) is None
    path.write_text("\n")
    with pytest.raises(ConfigurationError):
        read_secret(path)
    with pytest.raises(ConfigurationError):
        read_secret(tmp_path / "none")
