"""Every file, anchor, test and make target that a document names is there, and no document knows one machine."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.docs.documents import DOCUMENTS, ROOT, blocks, inline_code, prose

_LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
_HEADING = re.compile(r"^#{1,6} +(.+)$", re.MULTILINE)
_FILE = re.compile(r"(?P<path>[\w.*-]+(?:/[\w.*-]+)*/?)(?:::(?P<test>\w+))?")
_TEST = re.compile(r"test_\w+")
_MACHINE_PATH = re.compile(r"(?<![\w.~])/(?:work|root|home|Users)/")
_TOP = {path.name for path in ROOT.iterdir() if path.is_dir() and not path.name.startswith(".")}

every_document = pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)


def slug(heading: str) -> str:
    """A heading's anchor, as GitHub makes it."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def anchors(path: Path) -> set[str]:
    return {slug(heading) for heading in _HEADING.findall(prose(path))}


@every_document
def test_relative_links_lead_somewhere(path: Path) -> None:
    for link in _LINK.findall(prose(path)):
        if link.startswith(("http://", "https://")):
            continue
        name, _, anchor = link.partition("#")
        target = path.parent / name if name else path
        assert target.exists(), f"{path.name} links to {link}"
        if anchor:
            assert anchor in anchors(target), f"{path.name} links to {link}, and there is no such heading"


@every_document
def test_named_files_exist(path: Path) -> None:
    for code in inline_code(path):
        named = _FILE.fullmatch(code)
        if named is None or named["path"].partition("/")[0] not in _TOP or "/" not in named["path"]:
            continue
        found = list(ROOT.glob(named["path"].rstrip("/")))
        assert found, f"{path.name} names {code}"
        if named["test"]:
            assert f"def {named['test']}(" in found[0].read_text(encoding="utf-8"), f"{path.name} names {code}"


def test_named_tests_exist() -> None:
    source = "\n".join(file.read_text(encoding="utf-8") for file in (ROOT / "tests").rglob("test_*.py"))
    for path in DOCUMENTS:
        for code in inline_code(path):
            if _TEST.fullmatch(code):
                assert f"def {code}(" in source, f"{path.name} names {code}"


def test_make_targets_exist() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([\w-]+):", makefile, re.MULTILINE))
    for path in DOCUMENTS:
        code = [*inline_code(path), *(line for block in blocks(path, "sh") for line in block.text.splitlines())]
        for name in re.findall(r"^make ([\w-]+)", "\n".join(code), re.MULTILINE):
            assert name in targets, f"{path.name} names make {name}"


@every_document
def test_no_document_knows_one_machine(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert _MACHINE_PATH.findall(text) == []


def test_the_readme_leads_with_two_commands() -> None:
    first = blocks(ROOT / "README.md")[0]
    assert [line.split("#")[0].strip() for line in first.text.splitlines()] == ["make demo", "make test"]


def test_every_page_is_reached_from_the_readme() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    for path in (ROOT / "docs").glob("*.md"):
        assert f"(docs/{path.name}" in readme


_REFERENCE = re.compile(
    r"\bdocs/(?P<page>[\w-]+\.md)(?:,\s+(?:rules?|law)\s+(?P<numbers>\d+(?:\s+and\s+\d+)*)|,\s+\"(?P<part>[^\"]+)\")?"
)


def test_pages_that_the_code_refers_to_say_what_it_refers_to() -> None:
    text = {page.name: page.read_text(encoding="utf-8") for page in (ROOT / "docs").glob("*.md")}
    code = [file for top in _TOP - {"tests"} for file in (ROOT / top).rglob("*.py")]
    for file in code:
        for found in _REFERENCE.finditer(file.read_text(encoding="utf-8")):
            page, place = found["page"], f"{file.relative_to(ROOT)} refers to {found[0]}"
            assert page in text, place
            for number in re.findall(r"\d+", found["numbers"] or ""):
                assert re.search(rf"^(\| {number} \||{number}\. )", text[page], re.MULTILINE), place
            if found["part"]:
                assert f"## {' '.join(found['part'].split())}\n" in text[page], place
