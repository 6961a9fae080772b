"""The four workloads: everyday prompts that every gateway gets alike, made from a fixed seed.

None holds anything sensitive: what is measured is the cost of looking, with the answer that all of it may cross. Every
body carries ``NONCE`` once, in the last question, which the load script replaces by a word of its own in every request.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

NONCE = "@" * 12
POOL = 64
HISTORY_TURNS = 40
HISTORY_TURN_BYTES = 500

Message = dict[str, str]

_ENGLISH = (
    "What should I think about when I plan a small vegetable garden on a balcony that faces south?",
    "Please explain in plain words how a bicycle stays upright while it is moving.",
    "Compare three ways of storing coffee beans and say which keeps the taste best.",
    "I would like a short plan for learning to swim as an adult, with one session a week.",
    "Write two paragraphs on why the sea looks blue on some days and grey on others.",
    "Which questions should a team ask before it moves its weekly meeting to another day?",
    "Give me a friendly summary of how bread rises, and what goes wrong when it does not.",
    "How do migrating birds find their way over long distances without any landmarks?",
    "Suggest a simple structure for a talk about public libraries and their future.",
    "What are the main differences between a violin and a viola, in sound and in use?",
    "Describe a quiet morning in a harbour town, in the style of a travel essay.",
    "Help me to choose between a train journey and a flight for a holiday in the mountains.",
    "Explain the rules of a good debate to a class of curious teenagers.",
    "List a few habits that make it easier to read more books over a year.",
)
_CHINESE = (
    "请用通俗的语言说明潮汐是怎样形成的，以及它对沿海生活的影响。",
    "帮我写一段关于秋天公园散步的短文，语气轻松自然。",
    "比较一下绿茶和红茶在制作工艺上的主要区别。",
    "如果想养成早起的习惯，可以从哪些小事开始做起？",
    "请介绍几种适合在阳台上种植的蔬菜，并说明怎样浇水。",
    "为什么天空在傍晚的时候会变成橙红色？请简单解释。",
    "请为一次关于城市图书馆的演讲列一个简短的提纲。",
)


@dataclass(frozen=True, slots=True)
class Workload:
    """What is sent. ``prompt_bytes`` is the size of the last question, UTF-8; ``turns`` are messages before it."""

    name: str
    title: str
    prompt_bytes: int
    turns: int = 0
    stream: bool = False


WORKLOADS = (
    Workload("short", "600-byte prompt", 600),
    Workload("8kb", "8 KB prompt", 8192),
    Workload("history", "40-turn history (20 KB)", 500, turns=HISTORY_TURNS),
    Workload("stream", "600-byte prompt, 50 chunks streamed", 600, stream=True),
)


def conversations(workload: Workload, count: int = POOL, seed: int = 1) -> list[list[Message]]:
    """``count`` conversations of ``workload``; one in four is Chinese."""
    source = random.Random(f"{workload.name}/{seed}")
    return [_conversation(workload, source, _CHINESE if i % 4 == 3 else _ENGLISH) for i in range(count)]


def _conversation(workload: Workload, source: random.Random, bank: tuple[str, ...]) -> list[Message]:
    turns = [
        {"role": "assistant" if i % 2 else "user", "content": _text(HISTORY_TURN_BYTES, source, bank)}
        for i in range(workload.turns)
    ]
    question = f"{_text(workload.prompt_bytes - len(NONCE) - 1, source, bank)} {NONCE}"
    return [*turns, {"role": "user", "content": question}]


def _text(size_bytes: int, source: random.Random, bank: tuple[str, ...]) -> str:
    parts: list[str] = []
    length = 0
    while length < size_bytes:
        parts.append(source.choice(bank))
        length += len(parts[-1].encode()) + 1
    return " ".join(parts).encode()[:size_bytes].decode(errors="ignore")
