"""Code in documents is code: Python compiles, JSON parses, policies pass their own tests."""

from __future__ import annotations

import ast
import json
from pathlib import Path

import pytest

from classifiers.cascade import Classifier
from policies.lint import lint
from policies.testing import run_tests
from tests.docs.documents import Block, all_blocks

POLICIES = [block for block in all_blocks("yaml") if block.text.startswith("policy:")]


def place(block: Block) -> str:
    return block.place


@pytest.fixture(scope="module")
def classifier() -> Classifier:
    return Classifier()


@pytest.mark.parametrize("block", all_blocks("python"), ids=place)
def test_python_compiles(block: Block) -> None:
    ast.parse(block.text, filename=block.place)


@pytest.mark.parametrize("block", all_blocks("json"), ids=place)
def test_json_parses(block: Block) -> None:
    json.loads(block.text)


@pytest.mark.parametrize("block", POLICIES, ids=place)
def test_policies_are_free_of_faults_and_pass_their_tests(block: Block, classifier: Classifier, tmp_path: Path) -> None:
    policy = tmp_path / "policy.yaml"
    policy.write_text(block.text, encoding="utf-8")
    assert [str(fault) for fault in lint(policy)] == []
    report = run_tests(policy, classifier.classify)
    assert [str(fault) for fault in report.faults] == []
    assert report.cases
