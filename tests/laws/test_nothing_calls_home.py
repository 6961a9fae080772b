"""Nothing calls home (docs/threat-model.md, rule 12): no look-up and no connection but to the upstreams on loopback."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

RESOLVER_COUNTED = """
import json, socket, sys
from pathlib import Path

seen = []

def hook(event, arguments):
    if event in {"socket.getaddrinfo", "socket.gethostbyname"}:
        host = arguments[0]
        if host not in {None, "127.0.0.1", "localhost", "::1"}:
            seen.append([event, str(host)])
    elif event == "socket.connect":
        address = arguments[1]
        if isinstance(address, tuple) and not str(address[0]).startswith(("127.", "::1")):
            seen.append([event, str(address[0])])

sys.addaudithook(hook)
try:
    socket.getaddrinfo("control.invalid", 1)
except OSError:
    pass
assert seen, "the counter does not count"
seen.clear()
from classifiers import registry
from classifiers.cascade import Classifier
from tests.laws import checks
from tests.support.running import running

classifier = Classifier()
for detector in registry.detectors():
    for example in (*detector.examples, *detector.near_misses):
        classifier.classify_text(example if isinstance(example, str) else example[0])
classifier.classify_text("mail ann.lee@corp-mail.com or see https://corp-mail.com, call +44 20 7946 0018")
with running(Path(sys.argv[1])) as gateway:
    checks.control_canary_crosses(gateway)
    checks.sensitive_stays(gateway)
print(json.dumps(seen))
"""


@pytest.mark.system
def test_classifier_and_gateway_look_nothing_up_and_need_no_route(tmp_path: Path) -> None:
    """Run where there is no network but loopback, if this user may make such a place; the counters hold in any case."""
    command = [sys.executable, "-c", RESOLVER_COUNTED, str(tmp_path)]
    isolated = ["unshare", "-rn", "sh", "-c", 'ip link set lo up && exec "$@"', "sh"]
    if shutil.which("unshare") and shutil.which("ip"):
        probe = subprocess.run([*isolated, "true"], capture_output=True, check=False)
        if probe.returncode == 0:
            command = [*isolated, *command]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.splitlines()[-1] == "[]"
