"""The one TLS context factory: mutual TLS 1.3 between our own processes, peers told apart by their certificates.

    PEM files ──▶ server_context, client_context          refused: no certificate, another CA's, a revoked one
        └─ renewed ─▶ ServerTls.refresh ─▶ new handshakes    TLS 1.2 and below, resumed sessions

A peer is the subject of its certificate: ``O=Watershed, OU=<role>, CN=<name>``. Every process has a certificate of the
same CA, so a server must ask for the role as well (``runtime.listener.require_role``).
"""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import Any

import msgspec
import structlog
from cryptography import x509

from runtime.errors import ConfigurationError

log = structlog.get_logger()

Stamp = tuple[tuple[int, int, int], ...]


class Peer(msgspec.Struct, frozen=True):
    """Who stands at the other end, by the subject of its verified certificate: its CN, OU and serial number."""

    name: str
    role: str
    serial: int


class TlsFiles(msgspec.Struct, frozen=True):
    """One identity's PEM files.

    Attributes:
        certificate: the chain, leaf first.
        key: may be the same file as ``certificate``, which one rename then replaces whole.
        ca: the only CA whose certificates are accepted.
        crl: its revocations; without it no certificate is accepted.
    """

    certificate: Path
    key: Path
    ca: Path
    crl: Path

    def stamp(self) -> Stamp:
        """Changes when a file is replaced. Raises OSError."""
        stats = [path.stat() for path in (self.certificate, self.key, self.ca, self.crl)]
        return tuple((stat.st_ino, stat.st_mtime_ns, stat.st_size) for stat in stats)


def server_context(files: TlsFiles) -> ssl.SSLContext:
    """A context that demands a certificate of the CA that is not revoked.

    Raises:
        ConfigurationError: a file is missing, damaged, or not the certificate's key.
    """
    context = _context(ssl.PROTOCOL_TLS_SERVER, files)
    context.verify_mode = ssl.CERT_REQUIRED
    # A resumed session would skip the certificate, and so its revocation.
    context.options |= ssl.OP_NO_TICKET
    context.num_tickets = 0
    return context


def client_context(files: TlsFiles) -> ssl.SSLContext:
    """A context that shows our certificate and takes a server of the CA by its name alone.

    Raises:
        ConfigurationError: as ``server_context``.
    """
    return _context(ssl.PROTOCOL_TLS_CLIENT, files)


def peer_of(certificate: dict[str, Any] | None) -> Peer | None:
    """The peer of a verified certificate as ``ssl`` gives it (``getpeercert()``); None where it names no role or name."""
    if not certificate:
        return None
    subject = dict(pair for part in certificate["subject"] for pair in part)
    name, role = subject.get("commonName"), subject.get("organizationalUnitName")
    if not name or not role:
        return None
    return Peer(name, role, int(certificate["serialNumber"], 16))


class ServerTls:
    """A server's files, read again when they are replaced.

    Attributes:
        listening: the context for the listener; each handshake takes the newest files through it.
        revoked: serial numbers on the CRL as last read.
    """

    def __init__(self, files: TlsFiles) -> None:
        """Raises ConfigurationError, as ``server_context``."""
        self._files = files
        self._stamp, self._newest, self.revoked = _read(files)
        self.listening = server_context(files)
        self.listening.sni_callback = self._choose

    def refresh(self) -> bool:
        """Take up replaced files; blocks for a few milliseconds where there are any.

        Files that do not fit together, as in the midst of a renewal, are left for the next call and the old ones stay.

        Returns:
            Whether anything was taken up.
        """
        try:
            if self._files.stamp() == self._stamp:
                return False
            self._stamp, self._newest, self.revoked = _read(self._files)
        except (OSError, ConfigurationError) as error:
            log.warning("renewed TLS files not taken up", cause=type(error).__name__)
            return False
        return True

    def _choose(self, handshake: ssl.SSLObject | ssl.SSLSocket, _name: str | None, _context: ssl.SSLContext) -> None:
        # Certificate, CA and CRL of the new context hold for this handshake; asking for a certificate was settled before.
        handshake.context = self._newest


def _read(files: TlsFiles) -> tuple[Stamp, ssl.SSLContext, frozenset[int]]:
    try:
        stamp = files.stamp()
        context = server_context(files)
        crl = x509.load_pem_x509_crl(files.crl.read_bytes())
    except OSError as error:
        raise ConfigurationError(f"the TLS file {error.filename} cannot be read: {error.strerror}") from None
    except ValueError:
        raise ConfigurationError(f"the TLS file {files.crl} holds no revocation list") from None
    return stamp, context, frozenset(entry.serial_number for entry in crl)


def _context(protocol: int, files: TlsFiles) -> ssl.SSLContext:
    context = ssl.SSLContext(protocol)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.verify_flags |= ssl.VERIFY_CRL_CHECK_LEAF | ssl.VERIFY_X509_STRICT
    try:
        context.load_cert_chain(files.certificate, files.key)
        context.load_verify_locations(files.ca)
        context.load_verify_locations(files.crl)
    except ssl.SSLError:
        raise ConfigurationError(
            f"the TLS files beside {files.certificate} are damaged or do not belong together"
        ) from None
    except OSError as error:
        raise ConfigurationError(f"a TLS file beside {files.certificate} cannot be read: {error.strerror}") from None
    return context
