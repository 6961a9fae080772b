"""The worked example of docs/policies.md lints clean and passes, as the guide says it does."""

from __future__ import annotations

import datetime
import re
from pathlib import Path

from classifiers.cascade import Classifier
from policies.lint import lint
from policies.model import micros
from policies.testing import run_tests

GUIDE = Path(__file__).parents[2] / "docs" / "policies.md"
AT_US = micros(datetime.datetime(2026, 6, 15, tzinfo=datetime.UTC))
AFTERWARDS_US = micros(datetime.datetime(2026, 7, 1, tzinfo=datetime.UTC))


def example() -> str:
    (block,) = re.findall(r"```yaml title=\"clinic\.yaml\"\n(.*?)```", GUIDE.read_text(encoding="utf-8"), re.DOTALL)
    return str(block)


def test_the_worked_example_lints_clean(tmp_path: Path) -> None:
    path = tmp_path / "clinic.yaml"
    path.write_text(example(), encoding="utf-8")
    assert lint(path, now_us=AT_US) == []


def test_the_worked_example_passes_its_tests_and_covers_its_rules(tmp_path: Path) -> None:
    path = tmp_path / "clinic.yaml"
    path.write_text(example(), encoding="utf-8")
    report = run_tests(path, Classifier().classify, now_us=AT_US)
    assert report.faults == []
    assert report.uncovered == ()
    assert "exception:survey-contacts" in {name for case in report.cases for name in case.rules}


def test_after_its_expiry_lint_names_the_exception_as_the_guide_says(tmp_path: Path) -> None:
    path = tmp_path / "clinic.yaml"
    path.write_text(example(), encoding="utf-8")
    (fault,) = lint(path, now_us=AFTERWARDS_US)
    assert f"`clinic.yaml:{fault.line}:{fault.column}: {fault.message}`" in " ".join(
        GUIDE.read_text(encoding="utf-8").split()
    )


def test_after_its_expiry_the_examples_exception_fails_its_test(tmp_path: Path) -> None:
    path = tmp_path / "clinic.yaml"
    path.write_text(example(), encoding="utf-8")
    failed = [case.name for case in run_tests(path, Classifier().classify, now_us=AFTERWARDS_US).cases if not case.ok]
    assert failed == ["the survey team may send contact details until July"]
