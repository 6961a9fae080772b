"""MariaDB: accounts by certificate, and what each role may do."""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import Any

import pytest

from deploy import certificates
from deploy.certificates import Identity
from deploy.native import galera, mariadb
from deploy.native.supervisor import Supervisor
from deploy.site import Site
from deploy.topology import Kind


def _section(text: str, name: str) -> dict[str, str]:
    body = text.split(f"[{name}]\n", 1)[1].split("\n[", 1)[0]
    return dict(line.split("=", 1) for line in body.splitlines() if "=" in line)


def test_clients_replication_and_state_transfer_are_encrypted(full_site: Site) -> None:
    text = mariadb.server_configuration(full_site, full_site.topology["mariadb-b"])
    server, transfer = _section(text, "mysqld"), _section(text, "sst")
    assert server["require_secure_transport"] == "ON"
    assert server["tls_version"] == "TLSv1.3"
    assert "socket.ssl=yes" in server["wsrep_provider_options"]
    assert "gmcast.listen_addr=ssl://" in server["wsrep_provider_options"]
    assert transfer["encrypt"] == "4"
    assert set(transfer) == {"encrypt", "tca", "tcert", "tkey"}


def test_all_three_members_of_the_group_have_the_same_timings(full_site: Site) -> None:
    members = full_site.topology.of(Kind.MARIADB, Kind.ARBITER)
    timings = {
        tuple(o for o in galera.provider_options(full_site, member).split(";") if o.startswith(("evs.", "gmcast.peer")))
        for member in members
    }
    assert len(members) == 3
    assert len(timings) == 1
    assert "evs.inactive_timeout=PT5S" in timings.pop()


def test_one_node_alone_is_no_group(small_site: Site) -> None:
    assert "wsrep" not in mariadb.server_configuration(small_site, small_site.topology["mariadb-a"])


def test_an_account_demands_its_own_subject_and_our_issuer(full_site: Site) -> None:
    statements = mariadb.account_statements(full_site)
    assert (
        "ALTER USER 'gateway-b'@'%' REQUIRE SUBJECT '/O=Watershed/OU=gateway/CN=gateway-b' "
        "AND ISSUER '/O=Watershed/CN=Watershed demo CA'" in statements
    )
    assert not any("worker" in statement for statement in statements), "the cloud zone has no account"


def _write_state(site: Site, name: str, sequence: int, *, safe: bool) -> None:
    data = site.home(site.topology[name]) / "data"
    data.mkdir(parents=True)
    (data / "grastate.dat").write_text(f"version: 2.1\nseqno:   {sequence}\nsafe_to_bootstrap: {int(safe)}\n")


def test_before_the_first_start_the_first_node_founds_the_group(full_site: Site) -> None:
    assert galera.founder(full_site) == "mariadb-a"


def test_the_node_that_stopped_last_founds_the_group(full_site: Site) -> None:
    _write_state(full_site, "mariadb-a", 7, safe=False)
    _write_state(full_site, "mariadb-b", 9, safe=True)
    assert galera.founder(full_site) == "mariadb-b"
    assert mariadb.needs(full_site, full_site.topology["mariadb-a"]) == ("mariadb-b",)


def test_after_a_crash_of_all_the_most_advanced_founds_the_group(full_site: Site) -> None:
    _write_state(full_site, "mariadb-a", 7, safe=False)
    _write_state(full_site, "mariadb-b", 9, safe=False)
    assert galera.founder(full_site) == "mariadb-b"
    galera.allow_founding(full_site, full_site.topology["mariadb-b"])
    state = full_site.home(full_site.topology["mariadb-b"]) / "data" / "grastate.dat"
    assert "safe_to_bootstrap: 1" in state.read_text()


def test_where_not_all_data_can_be_seen_nobody_founds_a_group(full_site: Site) -> None:
    _write_state(full_site, "mariadb-a", 7, safe=False)
    assert galera.founder(full_site) is None


# Against a running server.


def _connect(stack: Supervisor, user: str, identity: Path | None) -> Any:
    import pymysql

    address = stack.site.address(stack.site.topology["mariadb-a"], "sql")
    context = ssl.create_default_context(cafile=str(stack.site.files("operator").ca))
    if identity is not None:
        context.load_cert_chain(identity)
    return pymysql.connect(
        host=address.host, port=address.port, user=user, database=mariadb.DATABASE, ssl=context, connect_timeout=10
    )


def _identity(stack: Supervisor, name: str) -> Path:
    return stack.site.files(name).identity


@pytest.mark.stack
def test_an_identity_gets_in_over_tls_1_3(small_stack: Supervisor) -> None:
    with _connect(small_stack, "gateway-a", _identity(small_stack, "gateway-a")) as connection:
        cursor = connection.cursor()
        cursor.execute("SHOW STATUS LIKE 'Ssl_version'")
        assert cursor.fetchone()[1] == "TLSv1.3"


@pytest.mark.stack
def test_another_subject_no_certificate_and_another_ca_are_refused(small_stack: Supervisor, tmp_path: Path) -> None:
    import pymysql

    certificates.issue(tmp_path, [Identity("gateway-a", "gateway")])
    forged = certificates.files(tmp_path, "gateway-a").identity
    for user, identity in (
        ("gateway-a", _identity(small_stack, "node-a")),
        ("gateway-a", None),
        ("gateway-a", forged),
        ("worker-a", _identity(small_stack, "worker-a")),
        ("root", _identity(small_stack, "operator")),
    ):
        with pytest.raises((pymysql.err.OperationalError, ssl.SSLError)):
            _connect(small_stack, user, identity)


@pytest.mark.stack
def test_a_client_that_speaks_no_tls_is_refused(small_stack: Supervisor) -> None:
    import pymysql

    address = small_stack.site.address(small_stack.site.topology["mariadb-a"], "sql")
    with pytest.raises(pymysql.err.OperationalError):
        pymysql.connect(host=address.host, port=address.port, user="gateway-a", ssl_disabled=True)


@pytest.mark.stack
def test_the_witness_adds_and_neither_changes_nor_deletes(small_stack: Supervisor) -> None:
    import pymysql

    with _connect(small_stack, "operator", _identity(small_stack, "operator")) as operator:
        operator.cursor().execute("CREATE TABLE IF NOT EXISTS probe (id INT PRIMARY KEY)")
        operator.cursor().execute("DELETE FROM probe")
        operator.commit()
        with _connect(small_stack, "witness", _identity(small_stack, "witness")) as witness:
            witness.cursor().execute("INSERT INTO probe VALUES (1)")
            witness.commit()
            for statement in ("UPDATE probe SET id = 2", "DELETE FROM probe", "DROP TABLE probe"):
                with pytest.raises(pymysql.err.OperationalError, match="denied"):
                    witness.cursor().execute(statement)
        operator.cursor().execute("DROP TABLE probe")


@pytest.mark.stack
def test_a_locked_identity_loses_its_connection_and_gets_no_other(small_stack: Supervisor) -> None:
    import pymysql

    identity = _identity(small_stack, "clearance")
    connection = _connect(small_stack, "clearance", identity)
    mariadb.lock(small_stack.site, "clearance")
    try:
        with pytest.raises(pymysql.err.OperationalError):
            connection.cursor().execute("SELECT 1")
        with pytest.raises(pymysql.err.OperationalError, match="locked"):
            _connect(small_stack, "clearance", identity)
    finally:
        mariadb.unlock(small_stack.site, "clearance")
    _connect(small_stack, "clearance", identity).close()
