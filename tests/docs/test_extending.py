"""The code of docs/extending.md, run: each extension does what the page says, in under 30 lines."""

from __future__ import annotations

import json
import re
import time
from typing import Any

import pytest

from classifiers import Sensitivity, base
from classifiers.cascade import Classifier
from local_inference.node import Node
from runtime.errors import ClearanceError, InvalidRequestError
from runtime.http import HttpRequest
from tests.docs.documents import ROOT, Block, blocks

PAGE = ROOT / "docs" / "extending.md"
MAX_LINES = 30


def code(name: str) -> Block:
    (block,) = [block for block in blocks(PAGE, "python") if f"class {name}" in block.text]
    return block


def run(name: str) -> Any:
    """The class ``name`` from the page."""
    block = code(name)
    # Not at the page's top level of names: what a block imports is its own.
    space: dict[str, Any] = {"__name__": f"extending_{name}"}
    exec(compile(block.text, block.place, "exec"), space)
    return space[name]


@pytest.mark.parametrize("block", [b for b in blocks(PAGE) if b.language in {"python", "yaml"}], ids=lambda b: b.place)
def test_each_is_short(block: Block) -> None:
    lines = [line for line in block.text.splitlines() if line.strip()]
    assert len(lines) <= MAX_LINES


def test_the_detector_finds_its_examples_and_no_near_miss(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(base, "_registered", list(base._registered))  # other tests keep their registry
    detector = run("StaffNumber")
    assert detector in base.registered()
    classifier = Classifier(detectors=[detector()])
    for example in detector.examples:
        value = re.search("⟦(.*?)⟧", example)
        assert value is not None
        text = re.sub("[⟦⟧]", "", example)
        label = classifier.classify_text(text)
        assert [text[f.start : f.end] for f in label.findings] == [value[1]]
        assert label.sensitivity is Sensitivity.CONFIDENTIAL
    for text in detector.near_misses:
        assert classifier.classify_text(text).findings == ()


def test_the_provider_adds_its_credentials_and_goes_nowhere_else() -> None:
    provider = run("AzureOpenAI")("https://example.openai.azure.com/openai/v1", "k")
    request = HttpRequest("POST", f"{provider.base_url}/chat/completions", (("accept", "*/*"),), b"{}")
    prepared = provider.prepare(request)
    assert prepared.headers == (("accept", "*/*"), ("api-key", "k"))
    assert (prepared.method, prepared.url, prepared.body) == (request.method, request.url, request.body)
    with pytest.raises(ClearanceError):
        provider.prepare(HttpRequest("POST", "https://elsewhere.example/openai/v1/chat/completions", (), b"{}"))


def test_the_wire_format_scans_what_it_knows_and_keeps_what_it_does_not() -> None:
    wire = run("Completions")()
    call = wire.receive(b'{"model": "m", "prompt": "hello", "user": "u", "suffix": "x"}')
    assert ("/prompt", "hello") in {(s.pointer, s.text) for s in call.segments}
    assert {s.unscannable for s in call.segments if s.pointer.startswith("/suffix")} == {"unknown_field"}
    assert wire.crossing_edits(call, "token") == {"/user": "token"}
    tokens = wire.receive(b'{"model": "m", "prompt": [1, 2, 3]}')
    assert any(s.unscannable for s in tokens.segments)
    for body in (b'{"model": "m", "prompt": "x", "stream": true}', b"[]", b'{"model": "m", "model": "n"}'):
        with pytest.raises(InvalidRequestError):
            wire.receive(body)


def test_the_wire_format_reads_the_answer_for_lineage() -> None:
    reader = run("Completions")().answer_reader(stream=False, keep_text=True)
    reader.feed(b'{"choices": [{"text": "an an')
    reader.feed(b'swer"}], "usage": {"prompt_tokens": 1, "completion_tokens": 2}}')
    assert reader.texts() == ["an answer"]
    assert reader.usage().completion_tokens == 2


async def test_the_engine_answers_through_a_node() -> None:
    node = Node(run("Parrot"))
    body = {"model": "auto", "messages": [{"role": "user", "content": "one two three"}]}
    try:
        response = await node.handle(
            HttpRequest(
                "POST", "/v1/chat/completions", (("content-type", "application/json"),), json.dumps(body).encode()
            ),
            time.monotonic() + 10,
        )
        answer = json.loads(await response.body(max_bytes=10_000))
    finally:
        await node.aclose()
    assert response.status == 200
    assert answer["choices"][0]["message"]["content"].split() == ["one", "two", "three"]
    assert answer["choices"][0]["finish_reason"] == "stop"
