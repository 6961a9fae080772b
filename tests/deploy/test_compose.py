"""``docker-compose.yml`` is the topology, no more and no less."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from deploy import compose, topology
from deploy.certificates import files
from deploy.container import ROOT
from deploy.topology import Zone

REPOSITORY = Path(__file__).resolve().parents[2]
COMMITTED = REPOSITORY / "docker-compose.yml"
DOCKERFILE = REPOSITORY / "deploy" / "Dockerfile"


def test_the_committed_file_is_fresh() -> None:
    assert COMMITTED.read_text() == compose.render(topology.full()), (
        "docker-compose.yml is stale: python -m deploy.compose > docker-compose.yml"
    )


@pytest.mark.skipif(shutil.which("docker-compose") is None, reason="docker-compose is not installed")
def test_docker_compose_accepts_it() -> None:
    checked = subprocess.run(
        ["docker-compose", "-f", str(COMMITTED), "--profile", "planned", "config", "--services"],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert checked.returncode == 0, checked.stderr
    assert set(checked.stdout.split()) == {"setup", *(service.name for service in topology.full())}


def test_every_service_has_a_target_of_the_dockerfile() -> None:
    targets = set(re.findall(r"^FROM \S+ AS (\S+)", DOCKERFILE.read_text(), re.MULTILINE))
    used = {service["build"]["target"] for service in compose.document(topology.full())["services"].values()}
    assert used <= targets


def test_every_image_runs_as_an_account_without_rights() -> None:
    stages = re.split(r"^FROM ", DOCKERFILE.read_text(), flags=re.MULTILINE)[1:]
    for stage in stages:
        accounts = re.findall(r"^USER (\S+)", stage, re.MULTILINE)
        assert not accounts or accounts[-1] == "watershed", stage.splitlines()[0]


def test_a_service_mounts_its_own_identity_and_nobody_elses() -> None:
    document = compose.document(topology.full())
    for service in topology.full():
        mounts = document["services"][service.name]["volumes"]
        identities = [mount for mount in mounts if mount.startswith(("identity-", "authority"))]
        folder = files(ROOT / "certificates", service.name).folder
        assert identities == [f"identity-{service.name}:{folder}"]


def test_no_network_leads_from_the_cloud_zone_to_an_on_prem_store() -> None:
    networks = compose.document(topology.full())["services"]
    cloud = {n for s in topology.full() if s.zone is Zone.CLOUD for n in networks[s.name]["networks"]}
    for service in topology.full():
        if service.kind.value in {"mariadb", "arbiter", "node", "clearance"}:
            assert not cloud & set(networks[service.name]["networks"]), service.name


def test_the_on_prem_networks_have_no_way_out() -> None:
    networks = compose.document(topology.full())["networks"]
    assert networks["onprem"] == networks["crossing"] == {"internal": True}


def test_only_the_entrance_is_published_and_on_loopback() -> None:
    services = compose.document(topology.full())["services"]
    published = {name: service["ports"] for name, service in services.items() if "ports" in service}
    assert published == {"haproxy": ["127.0.0.1:8080:8080"]}


def test_needs_are_waited_for_and_planned_services_are_left_out() -> None:
    services = yaml.safe_load(compose.render(topology.full()))["services"]
    for service in topology.full():
        waits = services[service.name]["depends_on"]
        assert {name for name, c in waits.items() if c["condition"] == "service_healthy"} == set(service.needs)
        assert ("planned" in services[service.name].get("profiles", [])) is not service.ready
        assert services[service.name]["healthcheck"]["test"][-1] == service.name
