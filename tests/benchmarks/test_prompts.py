from __future__ import annotations

import pytest

from benchmarks.gateway.prompts import HISTORY_TURNS, NONCE, WORKLOADS, Workload, conversations
from classifiers import Sensitivity
from classifiers.cascade import Classifier
from gateway.wire import ChatCompletions


@pytest.fixture(scope="module")
def classifier() -> Classifier:
    return Classifier()


@pytest.mark.parametrize("workload", WORKLOADS, ids=lambda w: w.name)
def test_a_prompt_has_its_size_and_one_place_for_the_word_of_its_own(workload: Workload) -> None:
    for messages in conversations(workload):
        assert sum(message["content"].count(NONCE) for message in messages) == 1
        assert 0.98 * workload.prompt_bytes <= len(messages[-1]["content"].encode()) <= workload.prompt_bytes


def test_a_history_has_its_turns_in_alternation_and_ends_with_a_question() -> None:
    messages = conversations(WORKLOADS[2])[0]
    assert [m["role"] for m in messages] == ["user", "assistant"] * (HISTORY_TURNS // 2) + ["user"]


def test_the_same_seed_gives_every_peer_the_same_prompts() -> None:
    assert conversations(WORKLOADS[0]) == conversations(WORKLOADS[0])
    assert conversations(WORKLOADS[0]) != conversations(WORKLOADS[0], seed=2)


@pytest.mark.parametrize("workload", WORKLOADS, ids=lambda w: w.name)
def test_nothing_in_a_prompt_is_sensitive_so_that_all_of_it_may_cross(
    workload: Workload, classifier: Classifier
) -> None:
    import json

    wire = ChatCompletions(max_messages=4096)
    for messages in conversations(workload, count=16):
        sent = json.dumps({"model": "mock", "messages": messages, "stream": workload.stream}).replace(
            NONCE, "badegikolumu"
        )
        label = classifier.classify(wire.receive(sent.encode()).segments)
        assert (label.sensitivity, label.findings, label.unscanned) == (Sensitivity.PUBLIC, (), ())
