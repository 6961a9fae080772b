"""The chart beside the JSON: throughput at 64 and median latency at 1, on logarithmic scales, as SVG."""

from __future__ import annotations

import math
from html import escape

from benchmarks.gateway.result import Result

_LEFT, _BAR, _STEP, _WIDTH, _PANEL_GAP = 210, 20, 30, 420, 130
_OURS, _OTHERS = "#0b6e99", "#a9b4bc"
_PANELS = (
    ("rps", 64, "requests/s, 64 at a time (more is better)", ",.0f"),
    ("p50_ms", 1, "median ms, one at a time (less is better)", ".2f"),
)


def svg(result: Result) -> str:
    """Two panels of bars for the short prompt. A peer without that figure has the word `failed` in its place."""
    height = 70 + _STEP * len(result.peers)
    total = 2 * (_LEFT + _WIDTH) + _PANEL_GAP
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {total} {height}" font-family="sans-serif" font-size="13">',
        f'<rect width="{total}" height="{height}" fill="white"/>',
    ]
    for i, (name, concurrency, title, form) in enumerate(_PANELS):
        values = [_value(result, peer.name, name, concurrency) for peer in result.peers]
        parts += _panel(i * (_LEFT + _WIDTH + _PANEL_GAP // 2) + 10, title, result, values, form)
    caption = f"{result.processor}; one core a gateway; 600-byte prompt; {result.date[:10]}, commit {result.commit}"
    parts.append(f'<text x="10" y="{height - 10}" font-size="11" fill="#666">{escape(caption)}</text></svg>')
    return "\n".join(parts) + "\n"


def _value(result: Result, peer: str, name: str, concurrency: int) -> float | None:
    for found in result.peers:
        if found.name == peer and (cell := found.cell("short", concurrency)) is not None:
            return float(getattr(cell, name))
    return None


def _panel(x: int, title: str, result: Result, values: list[float | None], form: str) -> list[str]:
    known = [value for value in values if value]
    low, high = (min(known) / 2, max(known)) if known else (1.0, 10.0)
    parts = [f'<text x="{x}" y="24" font-weight="bold">{escape(title)}</text>']
    for row, (peer, value) in enumerate(zip(result.peers, values, strict=True)):
        y = 40 + row * _STEP
        parts.append(f'<text x="{x}" y="{y + 15}">{escape(peer.title)}</text>')
        length = _WIDTH * math.log(value / low) / math.log(high / low) if value else 0
        colour = _OURS if peer.name == "watershed" else _OTHERS
        parts.append(f'<rect x="{x + _LEFT}" y="{y}" width="{length * 0.85:.0f}" height="{_BAR}" fill="{colour}"/>')
        word = format(value, form) if value else "failed"
        parts.append(f'<text x="{x + _LEFT + length * 0.85 + 6:.0f}" y="{y + 15}">{word}</text>')
    return parts
