"""``watershed classify``: JSON Lines in, the same objects with their label out, in order."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import IO, TYPE_CHECKING, Annotated, Any

import typer

from runtime.errors import ConfigurationError

if TYPE_CHECKING:
    from classifiers.cascade import Classifier


def classify(
    input_file: Annotated[
        Path | None, typer.Option("--input", help="Objects with a `text` field, one a line. [default: standard input]")
    ] = None,
    output_file: Annotated[
        Path | None, typer.Option("--output", help="Where to write. [default: standard output]")
    ] = None,
    explain: Annotated[
        bool, typer.Option("--explain", help="Add which detector, context and validation produced each finding.")
    ] = False,
) -> None:
    """Label texts, one JSON object a line.

    Each line must be an object with a string field `text`. It is written back with `sensitivity`, `categories` and
    `findings: [{entity_type, start, end, score, detector}]`; offsets count Unicode code points, the end is exclusive.

    \b
        echo '{"text": "mail ann.lee@acme-corp.com"}' | watershed classify
    """
    from classifiers.cascade import Classifier

    classifier = Classifier()
    source = _open(input_file, "r") if input_file else sys.stdin
    target = _open(output_file, "w") if output_file else sys.stdout
    if hasattr(target, "reconfigure"):
        target.reconfigure(encoding="utf-8")
    try:
        for number, line in enumerate(source, 1):
            if line.strip():
                target.write(_line(_labelled(classifier, line, number, explain)) + "\n")
    except UnicodeDecodeError:
        raise ConfigurationError("classify: the input is not UTF-8") from None
    finally:
        if output_file:
            target.close()
        else:
            target.flush()


def _open(path: Path, mode: str) -> IO[str]:
    try:
        return path.open(mode, encoding="utf-8")
    except OSError as error:
        raise ConfigurationError(f"classify: cannot open {path}: {error.strerror}") from None


def _line(row: dict[str, Any]) -> str:
    text = json.dumps(row, ensure_ascii=False)
    # Half a surrogate pair is legal in JSON as an escape, and in UTF-8 not at all.
    return text if text.isascii() or not any("\ud800" <= c <= "\udfff" for c in text) else json.dumps(row)


def _labelled(classifier: Classifier, line: str, number: int, explain: bool) -> dict[str, Any]:
    try:
        row = json.loads(line)
    except ValueError:
        raise ConfigurationError(f"classify: line {number} is not JSON") from None
    if not isinstance(row, dict) or not isinstance(row.get("text"), str):
        raise ConfigurationError(f"classify: line {number} is not an object with a string field `text`")
    text = row["text"]
    label = classifier.classify_text(text)
    row["sensitivity"] = label.sensitivity.word
    row["categories"] = sorted(label.categories)
    row["findings"] = [
        {
            "entity_type": f.entity_type,
            "start": f.start,
            "end": f.end,
            "score": round(f.score, 4),
            "detector": f.detector,
        }
        for f in label.findings
    ]
    if label.unverified_language:
        row["unverified_language"] = True
    if label.unscanned:
        row["unscanned"] = sorted({u.reason for u in label.unscanned})
    if explain:
        import msgspec

        row["explanations"] = [msgspec.to_builtins(e) for e in classifier.explain(text)]
    return row
