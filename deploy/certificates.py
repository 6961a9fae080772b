"""A private certificate authority and one identity a process.

    FOLDER/ca/{ca.pem, key.pem, crl.pem, register.json}
    FOLDER/NAME/{identity.pem, certificate.pem, key.pem, ca.pem, crl.pem}

``identity.pem`` is key, certificate and CA in one file: one rename replaces all three, so a reader never sees the key of
one certificate beside another. Kafka, HAProxy and Python load that file; MariaDB and the object store want key and
certificate apart, and are restarted after a renewal.

Identities are EC P-256 (Kafka's PEM reader, MariaDB, HAProxy and versitygw take it alike), live for 24 hours and carry
the subject ``O=Watershed, OU=<role>, CN=<name>``. This CA belongs to the demo profile: production refuses it.
"""

from __future__ import annotations

import fcntl
import ipaddress
import os
import secrets
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from runtime.errors import ConfigurationError

ORGANISATION = "Watershed"
CA_NAME = "Watershed demo CA"
ISSUER_SUBJECT = f"/O={ORGANISATION}/CN={CA_NAME}"
LIFETIME = timedelta(hours=24)
CA_LIFETIME = timedelta(days=3650)
CRL_LIFETIME = timedelta(days=7)
_BACKDATED = timedelta(minutes=5)  # tolerates the clocks of two hosts


class Identity(msgspec.Struct, frozen=True):
    """Who a certificate is for.

    Attributes:
        name: unique name of the process, the subject's CN and Kafka's principal.
        role: the subject's OU.
        hosts: further DNS names and IP addresses; ``name``, ``localhost``, 127.0.0.1 and ::1 are always there.
    """

    name: str
    role: str
    hosts: tuple[str, ...] = ()

    @property
    def subject(self) -> str:
        """In OpenSSL's one-line form, as MariaDB's ``REQUIRE SUBJECT`` compares it."""
        return f"/O={ORGANISATION}/OU={self.role}/CN={self.name}"


class Certificate(msgspec.Struct, frozen=True):
    """One line of the CA's register. Times are ISO 8601, UTC."""

    name: str
    role: str
    serial: str
    not_after: datetime
    hosts: tuple[str, ...] = ()
    revoked_at: datetime | None = None

    def current(self, now: datetime) -> bool:
        return self.revoked_at is None and now < self.not_after


class Files(msgspec.Struct, frozen=True):
    """Where one identity's files lie."""

    folder: Path

    @property
    def identity(self) -> Path:
        return self.folder / "identity.pem"

    @property
    def certificate(self) -> Path:
        return self.folder / "certificate.pem"

    @property
    def key(self) -> Path:
        return self.folder / "key.pem"

    @property
    def ca(self) -> Path:
        return self.folder / "ca.pem"

    @property
    def crl(self) -> Path:
        return self.folder / "crl.pem"


def files(folder: Path, name: str) -> Files:
    return Files(folder / name)


def issue(folder: Path, identities: Iterable[Identity], *, now: datetime | None = None) -> list[Certificate]:
    """Issue what is missing, expired or due (less than half its life left); make the CA on first use.

    Returns:
        The current certificate of each identity, in order.

    Raises:
        ConfigurationError: a name is registered for another role, or has been revoked (``rotate`` gives it a new one).
    """
    now = now or datetime.now(UTC)
    with _Authority(folder, now) as authority:
        issued = []
        for identity in identities:
            latest = authority.latest(identity.name)
            if latest is not None and latest.role != identity.role:
                raise ConfigurationError(f"the identity {identity.name} is registered for the role {latest.role}")
            if latest is not None and latest.revoked_at is not None:
                raise ConfigurationError(f"the identity {identity.name} is revoked", code="identity_revoked")
            if latest is None or _due(latest, now) or not files(folder, identity.name).identity.exists():
                latest = authority.certify(identity)
            issued.append(latest)
        return issued


def rotate(folder: Path, names: Iterable[str] | None = None, *, now: datetime | None = None) -> list[Certificate]:
    """New keys and certificates for ``names`` (default: every identity that is not revoked), replaced in place.

    Raises:
        ConfigurationError: a name is not registered.
    """
    now = now or datetime.now(UTC)
    with _Authority(folder, now) as authority:
        chosen = list(names) if names is not None else [c.name for c in authority.latest_all() if not c.revoked_at]
        return [authority.certify(authority.identity(name)) for name in chosen]


def revoke(folder: Path, name: str, *, now: datetime | None = None) -> list[Certificate]:
    """Revoke every certificate of ``name`` that has not expired and publish the CRL to every identity's folder.

    Returns:
        The certificates revoked by this call.

    Raises:
        ConfigurationError: the name is not registered.
    """
    now = now or datetime.now(UTC)
    with _Authority(folder, now) as authority:
        authority.identity(name)
        return authority.revoke(name)


def show(folder: Path) -> list[Certificate]:
    """The newest certificate of each identity, by name; empty where no CA was made."""
    latest = {certificate.name: certificate for certificate in _read_register(folder / "ca" / "register.json")}
    return [latest[name] for name in sorted(latest)]


def due(folder: Path, *, now: datetime | None = None) -> list[str]:
    """Names whose certificate has less than half its life left and should be rotated."""
    now = now or datetime.now(UTC)
    return [c.name for c in show(folder) if c.revoked_at is None and _due(c, now)]


def _due(certificate: Certificate, now: datetime) -> bool:
    return certificate.not_after - now < LIFETIME / 2


class _Authority:
    """The CA's key and register, held under a file lock for the length of one operation."""

    def __init__(self, folder: Path, now: datetime) -> None:
        self._folder = folder
        self._home = folder / "ca"
        self._now = now

    def __enter__(self) -> _Authority:
        self._folder.mkdir(mode=0o755, parents=True, exist_ok=True)
        self._home.mkdir(mode=0o700, exist_ok=True)
        self._lock = (self._home / "lock").open("w")
        fcntl.flock(self._lock, fcntl.LOCK_EX)
        self._register = _read_register(self._home / "register.json")
        if not (self._home / "key.pem").exists():
            self._create()
        self._key = _load_key(self._home / "key.pem")
        self._certificate = x509.load_pem_x509_certificate((self._home / "ca.pem").read_bytes())
        if not (self._home / "crl.pem").exists():
            self._write_crl()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            if kind is None:
                self._write_crl()
        finally:
            self._lock.close()

    def latest(self, name: str) -> Certificate | None:
        return next((c for c in reversed(self._register) if c.name == name), None)

    def latest_all(self) -> list[Certificate]:
        return list({c.name: c for c in self._register}.values())

    def identity(self, name: str) -> Identity:
        latest = self.latest(name)
        if latest is None:
            raise ConfigurationError(f"no identity is registered under the name {name}", code="identity_unknown")
        return Identity(latest.name, latest.role, latest.hosts)

    def certify(self, identity: Identity) -> Certificate:
        key = ec.generate_private_key(ec.SECP256R1())
        certificate = _leaf(identity, key, self._certificate, self._key, self._now)
        target = files(self._folder, identity.name)
        target.folder.mkdir(mode=0o700, exist_ok=True)
        ca_pem = self._certificate.public_bytes(serialization.Encoding.PEM)
        key_pem, certificate_pem = _key_pem(key), certificate.public_bytes(serialization.Encoding.PEM)
        _replace(target.identity, key_pem + certificate_pem + ca_pem, 0o600)
        _replace(target.key, key_pem, 0o600)
        _replace(target.certificate, certificate_pem + ca_pem, 0o644)
        _replace(target.ca, ca_pem, 0o644)
        _replace(target.crl, (self._home / "crl.pem").read_bytes(), 0o644)
        entry = Certificate(
            name=identity.name,
            role=identity.role,
            serial=f"{certificate.serial_number:040x}",
            not_after=certificate.not_valid_after_utc,
            hosts=identity.hosts,
        )
        self._record([*self._register, entry])
        return entry

    def revoke(self, name: str) -> list[Certificate]:
        revoked = []
        register = []
        for entry in self._register:
            if entry.name == name and entry.current(self._now):
                revoked.append(msgspec.structs.replace(entry, revoked_at=self._now.replace(microsecond=0)))
                register.append(revoked[-1])
            else:
                register.append(entry)
        self._record(register)
        return revoked

    def _create(self) -> None:
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name(
            [
                x509.NameAttribute(NameOID.ORGANIZATION_NAME, ORGANISATION),
                x509.NameAttribute(NameOID.COMMON_NAME, CA_NAME),
            ]
        )
        certificate = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(self._now - _BACKDATED)
            .not_valid_after(self._now + CA_LIFETIME)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(_usage(key_cert_sign=True, crl_sign=True), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            .sign(key, hashes.SHA256())
        )
        _replace(self._home / "ca.pem", certificate.public_bytes(serialization.Encoding.PEM), 0o644)
        # The key comes last: it marks the CA as made.
        _replace(self._home / "key.pem", _key_pem(key), 0o600)

    def _record(self, register: list[Certificate]) -> None:
        newest = {entry.name: entry for entry in register}  # kept for ever: a name never changes its role
        self._register = [entry for entry in register if entry.not_after > self._now or newest[entry.name] is entry]
        _replace(self._home / "register.json", msgspec.json.encode(self._register), 0o600)

    def _write_crl(self) -> None:
        builder = (
            x509.CertificateRevocationListBuilder()
            .issuer_name(self._certificate.subject)
            .last_update(self._now - _BACKDATED)
            .next_update(self._now + CRL_LIFETIME)
            .add_extension(x509.CRLNumber(int(self._now.timestamp() * 1000)), critical=False)
        )
        for entry in self._register:
            if entry.revoked_at is not None and entry.not_after > self._now:
                revoked = (
                    x509.RevokedCertificateBuilder()
                    .serial_number(int(entry.serial, 16))
                    .revocation_date(entry.revoked_at)
                    .build()
                )
                builder = builder.add_revoked_certificate(revoked)
        crl = builder.sign(self._key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
        _replace(self._home / "crl.pem", crl, 0o644)
        for entry in self.latest_all():
            target = files(self._folder, entry.name)
            if target.folder.is_dir():
                _replace(target.crl, crl, 0o644)


def _leaf(
    identity: Identity,
    key: ec.EllipticCurvePrivateKey,
    ca: x509.Certificate,
    ca_key: ec.EllipticCurvePrivateKey,
    now: datetime,
) -> x509.Certificate:
    subject = x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, ORGANISATION),
            x509.NameAttribute(NameOID.ORGANIZATIONAL_UNIT_NAME, identity.role),
            x509.NameAttribute(NameOID.COMMON_NAME, identity.name),
        ]
    )
    names = dict.fromkeys((identity.name, "localhost", "127.0.0.1", "::1", *identity.hosts))
    authority_key = ca.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(ca.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _BACKDATED)
        .not_valid_after(now + LIFETIME)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(digital_signature=True), critical=True)
        .add_extension(
            x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]), critical=False
        )
        .add_extension(x509.SubjectAlternativeName([_general_name(name) for name in names]), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(authority_key), critical=False)
        .sign(ca_key, hashes.SHA256())
    )


def _general_name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _usage(*, digital_signature: bool = False, key_cert_sign: bool = False, crl_sign: bool = False) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=digital_signature,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=key_cert_sign,
        crl_sign=crl_sign,
        encipher_only=False,
        decipher_only=False,
    )


def _key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def _load_key(path: Path) -> ec.EllipticCurvePrivateKey:
    key = serialization.load_pem_private_key(path.read_bytes(), password=None)
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise ConfigurationError(f"the CA's key {path} is no EC key")
    return key


def _read_register(path: Path) -> list[Certificate]:
    try:
        return msgspec.json.decode(path.read_bytes(), type=list[Certificate])
    except FileNotFoundError:
        return []
    except msgspec.MsgspecError:
        raise ConfigurationError(f"the CA's register {path} is damaged") from None


def _replace(path: Path, data: bytes, mode: int) -> None:
    """Write whole and durable before it is visible under its name."""
    draft = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    try:
        os.write(descriptor, data)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    draft.replace(path)
