"""Taint is kept by keyed digests of turns, joined upwards, and lost only on the strict side."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncEngine

from classifiers import Finding, Label, Sensitivity
from gateway.lineage import Lineage, Taint, lineage
from gateway.wire import Call, ChatCompletions
from runtime.database import migrate, open_async_engine, sqlite_url

ANSWER = "This is what I found out about the case."
SENSITIVE = "My number is 536-22-8726 and I owe taxes."


def call(*turns: tuple[str, str]) -> Call:
    messages = [{"role": role, "content": content} for role, content in turns]
    return ChatCompletions().receive(json.dumps({"model": "m", "messages": messages}).encode())


def label(sensitivity: Sensitivity = Sensitivity.RESTRICTED, *categories: str, at: int = 0) -> Label:
    finding = Finding("US_SSN", 0, 5, 0.9, "d", f"/messages/{at}/content")
    return Label(sensitivity, frozenset(categories or {"pii"}), (finding,))


@pytest.fixture
async def engine(tmp_path: Path) -> AsyncIterator[AsyncEngine]:
    url = sqlite_url(tmp_path)
    migrate(url)
    engine = open_async_engine(url)
    yield engine
    await engine.dispose()


@pytest.fixture
def memory(engine: AsyncEngine) -> Lineage:
    return Lineage(engine, b"k" * 32, ttl_s=60)


async def test_an_answer_alone_brings_its_taint_back(memory: Lineage) -> None:
    await memory.remember(call(("user", SENSITIVE)), label(), "t", [ANSWER])
    taint = await memory.taint_of(call(("assistant", ANSWER), ("user", "go on")), "t")
    assert taint == Taint(Sensitivity.RESTRICTED, frozenset({"pii"}))


@pytest.mark.parametrize("rewrapped", [f"  {ANSWER}\n", ANSWER.upper(), ANSWER.replace(" ", "\u00a0\n ")])
async def test_spacing_and_case_hide_nothing(memory: Lineage, rewrapped: str) -> None:
    await memory.remember(call(("user", SENSITIVE)), label(), "t", [ANSWER])
    assert (await memory.taint_of(call(("assistant", rewrapped)), "t")).sensitivity is Sensitivity.RESTRICTED


async def test_turns_before_the_tainted_one_stay_clean(memory: Lineage) -> None:
    greeting = "Good morning, could you help me please?"
    await memory.remember(
        call(("user", greeting), ("assistant", "Of course."), ("user", SENSITIVE)), label(at=2), "t", []
    )
    clean = call(("user", greeting), ("assistant", "Of course."), ("user", "Tell me about rivers."))
    assert await memory.taint_of(clean, "t") == Taint()


async def test_short_turns_and_system_prompts_taint_nothing(memory: Lineage) -> None:
    prompt = "You are a helpful assistant of our bank."
    await memory.remember(call(("system", prompt), ("user", SENSITIVE), ("user", "yes")), label(at=1), "t", ["Done."])
    assert await memory.taint_of(call(("system", prompt), ("assistant", "Done."), ("user", "yes")), "t") == Taint()


async def test_taint_only_rises_and_gathers_categories(memory: Lineage) -> None:
    asked = call(("user", SENSITIVE))
    await memory.remember(asked, label(Sensitivity.RESTRICTED, "pii"), "t", [ANSWER])
    await memory.remember(asked, label(Sensitivity.CONFIDENTIAL, "phi"), "t", [ANSWER])
    taint = await memory.taint_of(call(("assistant", ANSWER)), "t")
    assert taint == Taint(Sensitivity.RESTRICTED, frozenset({"pii", "phi"}))
    await memory.remember(asked, label(Sensitivity.CONFIDENTIAL, "pii"), "t", [ANSWER])
    assert (await memory.taint_of(call(("assistant", ANSWER)), "t")).sensitivity is Sensitivity.RESTRICTED


async def test_general_conversations_are_not_kept(memory: Lineage, engine: AsyncEngine) -> None:
    await memory.remember(call(("user", "x" * 40)), Label(Sensitivity.INTERNAL), "t", [ANSWER])
    async with engine.connect() as connection:
        assert (await connection.execute(sa.select(sa.func.count()).select_from(lineage))).scalar() == 0


async def test_tenants_are_apart(memory: Lineage) -> None:
    await memory.remember(call(("user", SENSITIVE)), label(), "red", [ANSWER])
    assert await memory.taint_of(call(("assistant", ANSWER)), "blue") == Taint()


async def test_the_store_holds_no_text(memory: Lineage, engine: AsyncEngine) -> None:
    await memory.remember(call(("user", SENSITIVE)), label(), "t", [ANSWER])
    stored = Path(str(engine.url.database)).parent
    content = b"".join(path.read_bytes() for path in stored.iterdir() if path.is_file())
    assert ANSWER.encode() not in content
    assert SENSITIVE.encode() not in content


async def test_a_lost_store_taints_what_has_a_history_and_nothing_else(memory: Lineage, engine: AsyncEngine) -> None:
    async with engine.begin() as connection:
        await connection.execute(sa.text("DROP TABLE lineage"))
    taint = await memory.taint_of(call(("assistant", ANSWER)), "t")
    assert taint.lost
    raised = taint.onto(Label())
    assert raised.sensitivity is Sensitivity.RESTRICTED
    assert [u.reason for u in raised.unscanned] == ["lineage_lost"]
    assert await memory.taint_of(call(("user", "a first turn")), "t") == Taint()


async def test_what_has_expired_is_forgotten(engine: AsyncEngine) -> None:
    brief = Lineage(engine, b"k" * 32, ttl_s=0)
    await brief.remember(call(("user", SENSITIVE)), label(), "t", [ANSWER])
    assert await brief.taint_of(call(("assistant", ANSWER)), "t") == Taint()
    assert await brief.sweep() > 0


async def test_the_conversation_token_is_stable_and_tells_nothing(engine: AsyncEngine) -> None:
    one, other = Lineage(engine, b"k" * 32, ttl_s=1), Lineage(engine, b"x" * 32, ttl_s=1)
    first = call(("user", "hello there"))
    later = call(("user", "hello there"), ("assistant", "hi"), ("user", "more"))
    assert one.conversation_token(first, "t") != other.conversation_token(first, "t")
    assert one.conversation_token(first, "t") != one.conversation_token(first, "u")
    assert one.conversation_token(first, "t") == one.conversation_token(later, "t")


async def test_many_at_once_ask_in_few_queries_and_each_gets_its_own(memory: Lineage, engine: AsyncEngine) -> None:
    await memory.remember(call(("user", SENSITIVE)), label(), "red", [ANSWER])
    queries = 0

    def count(*_: object) -> None:
        nonlocal queries
        queries += 1

    sa.event.listen(engine.sync_engine, "before_cursor_execute", count)
    tainted = call(("assistant", ANSWER))
    clean = call(("assistant", "Nothing to see here, move along please."))
    asked = [(tainted, "red"), (clean, "red"), (tainted, "blue"), (clean, "blue")] * 50
    taints = await asyncio.gather(*(memory.taint_of(one, tenant) for one, tenant in asked))
    assert [t.sensitivity is Sensitivity.RESTRICTED for t in taints] == [True, False, False, False] * 50
    assert queries < 10


async def test_a_caller_who_leaves_does_not_disturb_the_others(memory: Lineage) -> None:
    await memory.remember(call(("user", SENSITIVE)), label(), "t", [ANSWER])
    tasks = [asyncio.create_task(memory.taint_of(call(("assistant", ANSWER)), "t")) for _ in range(20)]
    await asyncio.sleep(0)
    for task in tasks[::2]:
        task.cancel()
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert all(isinstance(r, asyncio.CancelledError) for r in results[::2])
    assert all(isinstance(r, Taint) and r.sensitivity is Sensitivity.RESTRICTED for r in results[1::2])
