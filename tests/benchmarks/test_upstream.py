from __future__ import annotations

import json
import re
import shutil
import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx
import pytest

from benchmarks.gateway.measure import upstream
from benchmarks.gateway.wrk import run
from benchmarks.mock.build import upstream_binary

pytestmark = pytest.mark.system


@pytest.fixture
def url(tmp_path: Path) -> Iterator[str]:
    with upstream(tmp_path / "log.txt", core=0) as base_url:
        yield base_url


def test_it_compiles_once(tmp_path: Path) -> None:
    first = upstream_binary(tmp_path)
    made = first.stat().st_mtime_ns
    assert upstream_binary(tmp_path) == first
    assert first.stat().st_mtime_ns == made


def test_a_whole_answer_is_a_chat_completion(url: str) -> None:
    answer = httpx.post(f"{url}/chat/completions", json={"model": "mock", "messages": []}, trust_env=False)
    assert answer.json()["choices"][0]["finish_reason"] == "stop"


@pytest.mark.parametrize("spelling", ['{"stream":true}', '{"model": "mock", "stream": true}'])
def test_a_stream_is_fifty_events_and_the_end(url: str, spelling: str) -> None:
    answer = httpx.post(f"{url}/chat/completions", content=spelling, trust_env=False)
    events = [line.removeprefix("data: ") for line in answer.text.splitlines() if line]
    assert len(events) == 51
    assert events[-1] == "[DONE]"
    assert json.loads(events[49])["choices"][0]["finish_reason"] == "stop"


def test_a_chunked_body_in_pieces_and_a_pipelined_request_after_it_are_both_answered(url: str) -> None:
    port = int(url.split(":")[2].split("/")[0])
    head = b"POST /v1/chat/completions HTTP/1.1\r\nhost: mock\r\ntransfer-encoding: chunked\r\n\r\n"
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        for piece in (
            head[:20],
            head[20:],
            b"5\r\nabc",
            b"de\r\n0\r\n\r\nGET /v1/models HTTP/1.1\r\nhost: mock\r\n\r\n",
        ):
            connection.sendall(piece)
        received = b""
        while b'"list"' not in received:
            received += connection.recv(65_536)
    assert received.count(b"HTTP/1.1 200 OK") == 2


def test_what_is_no_http_closes_the_connection(url: str) -> None:
    port = int(url.split(":")[2].split("/")[0])
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        connection.sendall(b"POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\nnot a size\r\n")
        assert connection.recv(1) == b""


@pytest.mark.skipif(shutil.which("wrk") is None, reason="wrk is not installed")
def test_the_load_script_sends_each_request_a_word_of_its_own(tmp_path: Path) -> None:
    received: list[tuple[str, str]] = []

    class Recording(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            received.append((self.headers["x-test"], json.loads(body)["text"]))
            self.send_response(200)
            self.send_header("content-length", "2")
            self.end_headers()
            self.wfile.write(b"ok")

        def log_message(self, *_: object) -> None: ...

    bodies = tmp_path / "bodies.jsonl"
    bodies.write_text('{"text":"one @@@@@@@@@@@@"}\n{"text":"two @@@@@@@@@@@@"}\n')
    with ThreadingHTTPServer(("127.0.0.1", 0), Recording) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}/"
        figures = run(url, bodies=bodies, headers={"x-test": "a=b"}, cell=1, concurrency=1, seconds=1, core=0)
        server.shutdown()
    texts = [text for _, text in received]
    assert len(set(texts)) == len(texts) >= figures.requests > 10
    assert all(re.fullmatch("(one|two) [a-z]{12}", text) for text in texts)
    assert {header for header, _ in received} == {"a=b"}
    assert figures.errors == 0
