"""Loading is all or nothing, and the store keeps the last good version in force."""

from __future__ import annotations

import asyncio
import datetime
import os
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from classifiers.label import Label
from policies.bundle import STARTUP, PolicyStore, load
from policies.decision import CallFacts, Route
from policies.faults import PolicyError
from policies.model import Recipient
from policies.vocabulary import Vocabulary
from runtime.telemetry import POLICY_RELOADS

Write = Callable[..., Path]
ONE = """
rules:
  - {id: one, title: t, when: {category: phi}, outcome: onprem}
"""
TWO = ONE + "  - {id: two, title: t, when: {category: pii}, outcome: onprem}\n"
PROVIDER = Recipient(
    "extra", "E Ltd", "DE", ("eu",), "clauses", 0, False, datetime.datetime(2036, 1, 1, tzinfo=datetime.UTC)
)


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def rules_of(store: PolicyStore) -> set[str]:
    return {rule.id for rule in store.current().policy.rules}


def reloads(outcome: str) -> float:
    return POLICY_RELOADS.labels(outcome=outcome)._value.get()


# Loading


def test_the_shipped_set_is_loaded_without_a_path_and_is_not_unsigned() -> None:
    assert load().version.startswith("startup@1+")
    assert load(STARTUP).version == load().version


def test_any_other_file_is_unsigned(write: Write, vocabulary: Vocabulary) -> None:
    copy = write(STARTUP.read_text(encoding="utf-8"), header="")
    assert load(copy).version == f"unsigned:{load().version}"


def test_the_version_names_the_content_and_not_its_layout(write: Write, vocabulary: Vocabulary) -> None:
    one = load(write(ONE), vocabulary=vocabulary).version
    assert load(write("# a comment\n" + ONE), vocabulary=vocabulary).version == one
    assert load(write(TWO), vocabulary=vocabulary).version != one
    assert load(write(ONE.replace("category: phi", "tenant: phi")), vocabulary=vocabulary).version != one
    assert load(write(ONE), vocabulary=vocabulary, extra_recipients=[PROVIDER]).version != one


def test_a_folder_is_one_policy_with_its_subfolders(write: Write, vocabulary: Vocabulary) -> None:
    folder = write(ONE, "set/a.yaml").parent
    write("rules:\n  - {id: deep, title: t, when: {category: pii}, outcome: onprem}\n", "set/sub/b.yml", header="")
    write("not: read\n", "set/.hidden/c.yaml", header="")
    write("not: read\n", "set/notes.txt", header="")
    assert {rule.id for rule in load(folder, vocabulary=vocabulary).policy.rules} == {"one", "deep"}


def test_absent_defaults_mean_onprem(write: Write, vocabulary: Vocabulary) -> None:
    engine = load(write(ONE), vocabulary=vocabulary, extra_recipients=[PROVIDER])
    assert engine.decide(Label(), CallFacts("t"), decision_id="d", now_us=0).route is Route.ONPREM


def test_extra_recipients_join_in_but_never_stand_before_the_documents(write: Write, vocabulary: Vocabulary) -> None:
    incomplete = write(ONE + "defaults: {outcome: cloud}\nrecipients: [{id: extra, country: DE}]\n")
    assert set(load(incomplete, vocabulary=vocabulary, extra_recipients=[PROVIDER]).recipients) == set()
    silent = write(ONE + "defaults: {outcome: cloud}\n")
    engine = load(silent, vocabulary=vocabulary, extra_recipients=[PROVIDER])
    assert engine.decide(Label(), CallFacts("t"), decision_id="d", now_us=0).recipients == {"onprem", "extra"}


@pytest.mark.parametrize("kind", ["absent", "empty-folder", "no-yaml"])
def test_what_cannot_be_read_is_refused(tmp_path: Path, vocabulary: Vocabulary, kind: str) -> None:
    path = tmp_path / kind
    if kind != "absent":
        path.mkdir()
    if kind == "no-yaml":
        (path / "policy.json").write_text("{}")
    with pytest.raises(PolicyError, match="policy is refused") as caught:
        load(path, vocabulary=vocabulary)
    assert caught.value.code == "policy_invalid"
    assert [fault.path for fault in caught.value.faults] == [str(path)]


# The store


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def store(write: Write, vocabulary: Vocabulary, clock: Clock) -> PolicyStore:
    return PolicyStore(write(ONE), lease_s=900, clock=clock, vocabulary=vocabulary)


def test_a_store_begins_with_a_good_version_or_not_at_all(write: Write, vocabulary: Vocabulary) -> None:
    with pytest.raises(PolicyError):
        PolicyStore(write("rules: 1\n"), lease_s=900, vocabulary=vocabulary)


def test_a_new_good_version_comes_into_force(store: PolicyStore, write: Write) -> None:
    before, loaded = store.current(), reloads("loaded")
    write(TWO)
    assert store.reload()
    assert rules_of(store) == {"one", "two"}
    assert {rule.id for rule in before.policy.rules} == {"one"}, "a request in flight keeps its version"
    assert reloads("loaded") == loaded + 1


def test_an_unchanged_source_is_no_new_version(store: PolicyStore, write: Write) -> None:
    assert not store.reload()
    write("# only a comment\n" + ONE)
    assert not store.reload()


@pytest.mark.parametrize(
    "content", ["", "policy: {name: trial", "rules: []\n", "policy: {name: trial, version: '2'}\nrules: [{id: o"]
)
def test_a_bad_or_half_written_file_changes_nothing(store: PolicyStore, write: Write, content: str) -> None:
    before, refused = store.current(), reloads("refused")
    path = write(content, header="")
    assert not store.reload()
    assert not store.reload()
    assert store.current() is before
    assert {fault.path for fault in store.faults} == {str(path)}
    assert reloads("refused") == refused + 1, "one alarm for one bad version"
    write(TWO)
    assert store.reload()
    assert store.faults == []


def test_going_back_to_the_version_in_force_clears_the_faults(store: PolicyStore, write: Write) -> None:
    write("rules: 1\n")
    store.reload()
    write(ONE)
    assert not store.reload()
    assert store.faults == []


def test_the_lease_runs_only_while_the_source_cannot_be_read(store: PolicyStore, write: Write, clock: Clock) -> None:
    path = write(ONE)
    path.unlink()
    clock.now = 900
    assert not store.reload()
    assert not store.lease_lost()
    assert "cannot be read" in store.faults[0].message
    clock.now = 900.1
    assert store.lease_lost()
    assert rules_of(store) == {"one"}
    write(ONE)
    assert not store.reload()
    assert not store.lease_lost()
    assert store.faults == []


def test_a_bad_document_is_readable_and_keeps_the_lease(store: PolicyStore, write: Write, clock: Clock) -> None:
    clock.now = 800
    write("rules: 1\n")
    store.reload()
    clock.now = 1600
    assert not store.lease_lost()


def test_an_emptied_folder_is_a_lost_source(write: Write, vocabulary: Vocabulary, clock: Clock) -> None:
    path = write(ONE, "set/a.yaml")
    store = PolicyStore(path.parent, lease_s=900, clock=clock, vocabulary=vocabulary)
    path.unlink()
    clock.now = 901
    store.reload()
    assert store.lease_lost()


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not condition():
            await asyncio.sleep(0.01)


@pytest.fixture
async def watched(store: PolicyStore) -> AsyncIterator[PolicyStore]:
    async with asyncio.TaskGroup() as group:
        task = group.create_task(store.watch())
        yield store
        task.cancel()


async def test_watching_takes_up_a_file_replaced_by_renaming(
    watched: PolicyStore, write: Write, tmp_path: Path
) -> None:
    fresh = write(TWO, "fresh.tmp")
    os.replace(fresh, tmp_path / "policy.yaml")
    await until(lambda: rules_of(watched) == {"one", "two"})


async def test_watching_survives_the_loss_of_the_source(watched: PolicyStore, write: Write, tmp_path: Path) -> None:
    (tmp_path / "policy.yaml").unlink()
    await until(lambda: bool(watched.faults))
    write(TWO)
    await until(lambda: rules_of(watched) == {"one", "two"})
    assert watched.faults == []


async def test_watching_a_folder_survives_the_loss_of_the_folder(write: Write, vocabulary: Vocabulary) -> None:
    path = write(ONE, "set/a.yaml")
    store = PolicyStore(path.parent, lease_s=900, vocabulary=vocabulary)
    async with asyncio.TaskGroup() as group:
        task = group.create_task(store.watch())
        path.unlink()
        path.parent.rmdir()
        await until(lambda: bool(store.faults))
        write(TWO, "set/a.yaml")
        await until(lambda: rules_of(store) == {"one", "two"})
        task.cancel()


async def test_a_file_still_being_written_is_not_read_halfway(watched: PolicyStore, tmp_path: Path) -> None:
    """Each prefix here is a good policy in itself: only standing still tells that the writer is done."""
    lines = ['policy: {name: trial, version: "2"}', "rules:"]
    lines += [f"  - {{id: r{i}, title: t, when: {{category: phi}}, outcome: onprem}}" for i in range(20)]
    seen: set[int] = set()
    with (tmp_path / "policy.yaml").open("w") as file:
        for line in lines:
            file.write(line + "\n")
            file.flush()
            await asyncio.sleep(0.02)
            seen.add(len(rules_of(watched)))
    await until(lambda: len(rules_of(watched)) == 20)
    assert seen == {1}
