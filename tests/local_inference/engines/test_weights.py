from __future__ import annotations

import threading
from pathlib import Path

import pytest

from local_inference.engines import weights
from runtime.errors import ConfigurationError, UnavailableError


@pytest.fixture
def conversions(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[Path]:
    """The drafts that were written; in place of the real conversion, a fake that writes one small file."""
    drafts: list[Path] = []

    def convert(gguf: Path, draft: Path) -> None:
        drafts.append(draft)
        (draft / "config.json").write_text("{}")

    monkeypatch.setattr(weights, "_convert", convert)
    monkeypatch.setattr(weights, "find_gguf", lambda: tmp_path / "model.gguf")
    monkeypatch.setattr("importlib.metadata.version", lambda _: "9.9")
    return drafts


def test_a_model_is_converted_once_whoever_asks(conversions: list[Path], tmp_path: Path) -> None:
    folders: list[Path] = []
    threads = [
        threading.Thread(target=lambda: folders.append(weights.converted_model(tmp_path / "models"))) for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(folders)) == 1
    assert len(folders) == 8
    assert len(conversions) == 1
    assert (folders[0] / "config.json").is_file()


def test_a_conversion_that_fails_leaves_nothing_and_is_made_anew(
    conversions: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    works = weights._convert

    def fail(gguf: Path, draft: Path) -> None:
        (draft / "half").write_text("")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(weights, "_convert", fail)
    with pytest.raises(UnavailableError, match="No space left"):
        weights.converted_model(tmp_path)
    assert not [path for path in tmp_path.iterdir() if path.is_dir()]
    monkeypatch.setattr(weights, "_convert", works)
    assert weights.converted_model(tmp_path).is_dir()


def test_the_draft_of_a_process_that_died_is_cleared_away(conversions: list[Path], tmp_path: Path) -> None:
    abandoned = tmp_path / ".smollm2-135m-instruct-9.9-f32.draft-dead"
    abandoned.mkdir()
    folder = weights.converted_model(tmp_path)
    assert [path for path in tmp_path.iterdir() if path.is_dir()] == [folder]


def test_without_the_extra_the_message_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    with pytest.raises(ConfigurationError, match=r"uv sync --extra onprem.*--onprem-url"):
        weights.find_gguf()


@pytest.mark.model
def test_the_package_is_found_without_importing_it() -> None:
    import sys

    assert weights.find_gguf().suffix == ".gguf"
    assert weights.PACKAGE not in sys.modules
