"""MariaDB: one server, or a Galera pair of which one node is written to and the other stands by.

Clients come over TLS 1.3 with a certificate: each identity is an account without a password whose ``REQUIRE SUBJECT``
names that certificate and no other. Administration goes through the unix socket, which the kernel authenticates.
"""

from __future__ import annotations

import getpass
import os
import pwd
import re
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlencode

from deploy.certificates import ISSUER_SUBJECT
from deploy.native import galera, packages
from deploy.native.driver import Launch, accepts_tcp
from deploy.site import Site
from deploy.topology import Kind, Service
from runtime.database import migrate
from runtime.errors import ConfigurationError

if TYPE_CHECKING:
    from pymysql.cursors import Cursor

DATABASE = "watershed"
GALERA_LIBRARY = "/usr/lib/galera/libgalera_smm.so"
GRANTS = {
    "gateway": "SELECT, INSERT, UPDATE, DELETE",
    "node": "SELECT, INSERT, UPDATE, DELETE",
    "clearance": "SELECT",
    "witness": "SELECT, INSERT",
    "operator": "ALL PRIVILEGES",
}
_SETUP_TIMEOUT_S = 60
_SQL_TIMEOUT_S = 3
_NAME = re.compile(r"[a-z0-9-]+")


def requirements() -> Sequence[packages.Requirement]:
    return (
        packages.Debian(("mariadb-server", "galera-4"), "mariadbd", 200),
        packages.Debian(("mariadb-backup", "socat"), "mariadb-backup", 45),
        packages.PythonModule("pymysql", 1),
    )


def needs(site: Site, service: Service) -> Sequence[str]:
    """The standby waits for the node whose data is the newest, whichever that is."""
    first = galera.founder(site) if galera.is_replicated(site) else None
    return service.needs if first in {None, service.name} else (*service.needs, str(first))


def prepare(site: Site, service: Service) -> None:
    home = site.home(service)
    home.mkdir(mode=0o700, parents=True, exist_ok=True)
    copy_tls(site, service)
    configuration(site, service).write_text(server_configuration(site, service), encoding="utf-8")
    for name in ("data", "run", "tmp"):
        (home / name).mkdir(mode=0o700, exist_ok=True)
    give_to_account(home)
    joins = galera.is_replicated(site) and galera.founder(site) != service.name
    if not joins and not (home / "data" / "mysql").exists():
        _install(site, service)


def launch(site: Site, service: Service) -> Launch:
    argv = [packages.require_program("mariadbd"), f"--defaults-file={configuration(site, service)}"]
    if galera.is_replicated(site):
        if position := galera.start_position(site, service):
            argv.append(f"--wsrep-start-position={position}")
        if galera.founds(site, service):
            galera.allow_founding(site, service)
            argv.append("--wsrep-new-cluster")
    return Launch(argv, cwd=site.home(service), user=galera.account())


def healthy(site: Site, service: Service) -> bool:
    import pymysql

    if not accepts_tcp(site.address(service, "sql")):
        return False
    try:
        with administration(site, service) as cursor:
            if not galera.is_replicated(site):
                return True
            cursor.execute("SHOW STATUS WHERE Variable_name IN ('wsrep_ready', 'wsrep_local_state_comment')")
            return dict(cursor.fetchall()) == {"wsrep_ready": "ON", "wsrep_local_state_comment": "Synced"}
    except (pymysql.Error, OSError):
        return False


def settle(site: Site, services: Sequence[Service]) -> None:
    """The database, one account an identity, and the newest schema, which no account but the administrator may change."""
    import pymysql

    if not services:
        return
    try:
        with administration(site, services[0]) as cursor:
            for statement in account_statements(site):
                cursor.execute(statement)
    except pymysql.Error as error:
        raise ConfigurationError(f"MariaDB refuses its accounts: error {error.args[0]}") from None
    migrate(administration_url(site, services[0]))


def administration_url(site: Site, service: Service) -> str:
    """The administrator's way in, for ``runtime.database``: the unix socket."""
    query = urlencode({"unix_socket": _socket(site, service)})
    return f"mysql+pymysql://{getpass.getuser()}@localhost/{DATABASE}?{query}"


def account_statements(site: Site) -> list[str]:
    """SQL that creates the database and makes accounts and rights what ``GRANTS`` says."""
    statements = [f"CREATE DATABASE IF NOT EXISTS {DATABASE} CHARACTER SET utf8mb4 COLLATE utf8mb4_bin"]
    for identity in site.topology.identities():
        rights = GRANTS.get(identity.role)
        if rights is None:
            continue
        if not _NAME.fullmatch(identity.name):
            raise ConfigurationError("an identity's name cannot be an account's name")
        user = f"'{identity.name}'@'%'"
        demand = f"REQUIRE SUBJECT '{identity.subject}' AND ISSUER '{ISSUER_SUBJECT}'"
        statements += [
            f"CREATE USER IF NOT EXISTS {user} {demand}",
            f"ALTER USER {user} {demand}",
            f"GRANT {rights} ON {DATABASE}.* TO {user}",
        ]
    return statements


def lock(site: Site, name: str) -> None:
    """Shut a revoked identity out: its account is locked on every node and its open connections end.

    Raises:
        ConfigurationError: no node answers.
    """
    _on_every_node(site, name, "ALTER USER IF EXISTS '{}'@'%' ACCOUNT LOCK", "KILL CONNECTION USER '{}'")


def unlock(site: Site, name: str) -> None:
    """Let an identity in again.

    Raises:
        ConfigurationError: no node answers.
    """
    _on_every_node(site, name, "ALTER USER IF EXISTS '{}'@'%' ACCOUNT UNLOCK")


def _on_every_node(site: Site, name: str, *statements: str) -> None:
    import pymysql

    if not _NAME.fullmatch(name):
        raise ConfigurationError("an identity's name cannot be an account's name")
    reached = 0
    for node in site.topology.of(Kind.MARIADB):
        try:
            with administration(site, node) as cursor:
                for statement in statements:
                    cursor.execute(statement.format(name))
                reached += 1
        except (pymysql.Error, OSError):
            continue
    if reached == 0:
        raise ConfigurationError("no database node answers", code="database_unreachable")


@contextmanager
def administration(site: Site, service: Service) -> Iterator[Cursor]:
    """A cursor of the administrator, through the unix socket.

    Raises:
        pymysql.Error: the node does not answer or refuses.
    """
    import pymysql

    connection = pymysql.connect(
        unix_socket=str(_socket(site, service)),
        user=getpass.getuser(),
        connect_timeout=_SQL_TIMEOUT_S,
        read_timeout=_SQL_TIMEOUT_S * 5,
        autocommit=True,
    )
    try:
        with connection.cursor() as cursor:
            yield cursor
    finally:
        connection.close()


def _socket(site: Site, service: Service) -> Path:
    return site.home(service) / "run" / "sql.sock"


def configuration(site: Site, service: Service) -> Path:
    return site.home(service) / galera.CONFIGURATION


def server_configuration(site: Site, service: Service) -> str:
    """``my.cnf`` of one node."""
    home, tls = site.home(service), galera.local_tls(site, service)
    listen = site.listen(service, "sql")
    values: dict[str, object] = {
        "datadir": home / "data",
        "socket": _socket(site, service),
        "pid_file": home / "run" / "mariadbd.pid",
        "tmpdir": home / "tmp",
        "bind_address": listen.host,
        "port": listen.port,
        "skip_name_resolve": "ON",
        "character_set_server": "utf8mb4",
        "collation_server": "utf8mb4_bin",
        "require_secure_transport": "ON",
        "tls_version": "TLSv1.3",
        "ssl_ca": tls / "ca.pem",
        "ssl_cert": tls / "certificate.pem",
        "ssl_key": tls / "key.pem",
        "ssl_crl": tls / "crl.pem",
        "performance_schema": "OFF",
        "max_connections": 100,
        "innodb_buffer_pool_size": "32M",
        "innodb_log_file_size": "32M",
        "innodb_flush_log_at_trx_commit": 1,
        "binlog_format": "ROW",
        "innodb_autoinc_lock_mode": 2,
        "default_storage_engine": "InnoDB",
    }
    if galera.is_replicated(site):
        values |= _replication(site, service)
    lines = ["[mysqld]", *(f"{key}={value}" for key, value in values.items())]
    if galera.is_replicated(site):
        lines += ["[sst]", "encrypt=4", f"tca={tls}/ca.pem", f"tcert={tls}/certificate.pem", f"tkey={tls}/key.pem"]
    return "\n".join(lines) + "\n"


def copy_tls(site: Site, service: Service) -> None:
    """Put the certificate where the database account may read it."""
    folder = galera.local_tls(site, service)
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    source = site.files(service.name)
    for path in (source.key, source.certificate, source.ca, source.crl):
        draft = folder / f".{path.name}"
        shutil.copy(path, draft)
        draft.replace(folder / path.name)


def give_to_account(home: Path) -> None:
    """Hand the folder to the database account where the stack is started by root."""
    if (name := galera.account()) is None:
        return
    entry = pwd.getpwnam(name)
    home.parent.chmod(0o755)
    for path in (home, *home.rglob("*")):
        os.chown(path, entry.pw_uid, entry.pw_gid, follow_symlinks=False)


def _replication(site: Site, service: Service) -> dict[str, object]:
    sql = site.address(service, "sql")
    options = galera.provider_options(
        site, service, {"ist.recv_addr": f"ssl://{site.address(service, 'ist')}", "gcache.size": "64M"}
    )
    return {
        "wsrep_on": "ON",
        "wsrep_provider": GALERA_LIBRARY,
        "wsrep_provider_options": f'"{options}"',
        "wsrep_cluster_name": galera.GROUP,
        "wsrep_cluster_address": galera.group_address(site),
        "wsrep_node_name": service.name,
        "wsrep_node_address": site.address(service, "galera"),
        "wsrep_node_incoming_address": sql,
        "wsrep_sst_method": "mariabackup",
        "wsrep_sst_auth": f"{galera.account() or getpass.getuser()}:",
        "wsrep_sst_receive_address": site.address(service, "sst"),
        "wsrep_slave_threads": 2,
    }


def _install(site: Site, service: Service) -> None:
    home = site.home(service)
    owner = galera.account() or getpass.getuser()
    command = (
        packages.require_program("mariadb-install-db"),
        "--no-defaults",
        f"--datadir={home / 'data'}",
        "--auth-root-authentication-method=socket",
        f"--auth-root-socket-user={owner}",
        "--skip-test-db",
        "--skip-name-resolve",
    )
    finished = subprocess.run(  # noqa: S603
        command, cwd=home, user=galera.account(), capture_output=True, timeout=_SETUP_TIMEOUT_S, check=False
    )
    if finished.returncode != 0:
        detail = (finished.stdout + finished.stderr).decode(errors="replace").strip()[-400:]
        raise ConfigurationError(f"the data of {service.name} cannot be made: {detail}")
