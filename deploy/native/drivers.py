"""Which module drives which kind of service."""

from __future__ import annotations

from collections.abc import Mapping

from deploy.native import arbiter, haproxy, kafka, mariadb, s3, toxiproxy, watershed
from deploy.native.driver import Driver
from deploy.topology import Kind

DRIVERS: Mapping[Kind, Driver] = {
    Kind.HAPROXY: haproxy,
    Kind.GATEWAY: watershed,
    Kind.CLEARANCE: watershed,
    Kind.WITNESS: watershed,
    Kind.NODE: watershed,
    Kind.WORKER: watershed,
    Kind.BROKER: kafka,
    Kind.CONTROLLER: kafka,
    Kind.MARIADB: mariadb,
    Kind.ARBITER: arbiter,
    Kind.OBJECT_STORE: s3,
    Kind.TOXIPROXY: toxiproxy,
}
