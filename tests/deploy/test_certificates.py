"""One identity a process: chain, names, modes, life, rotation and revocation."""

from __future__ import annotations

import ipaddress
import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.x509.oid import NameOID
from cryptography.x509.verification import PolicyBuilder, Store, VerificationError

from deploy import certificates
from deploy.certificates import Identity
from runtime.errors import ConfigurationError

GATEWAY = Identity("gateway-a", "gateway", ("gateway.internal", "10.0.0.7"))
WORKER = Identity("worker-a", "worker")


def _leaf(folder: Path, name: str) -> x509.Certificate:
    return x509.load_pem_x509_certificates(certificates.files(folder, name).certificate.read_bytes())[0]


def _ca(folder: Path) -> x509.Certificate:
    return x509.load_pem_x509_certificate((folder / "ca" / "ca.pem").read_bytes())


def _crl(path: Path) -> x509.CertificateRevocationList:
    return x509.load_pem_x509_crl(path.read_bytes())


def test_a_certificate_chains_to_the_ca_and_holds_for_its_names(tmp_path: Path) -> None:
    certificates.issue(tmp_path, [GATEWAY])
    store = PolicyBuilder().store(Store([_ca(tmp_path)]))
    for host in ("gateway-a", "localhost", "gateway.internal"):
        store.build_server_verifier(x509.DNSName(host)).verify(_leaf(tmp_path, "gateway-a"), [])
    for address in ("127.0.0.1", "::1", "10.0.0.7"):
        name = x509.IPAddress(ipaddress.ip_address(address))
        store.build_server_verifier(name).verify(_leaf(tmp_path, "gateway-a"), [])
    with pytest.raises(VerificationError):
        store.build_server_verifier(x509.DNSName("worker-a")).verify(_leaf(tmp_path, "gateway-a"), [])


def test_another_ca_does_not_vouch_for_it(tmp_path: Path) -> None:
    certificates.issue(tmp_path / "ours", [GATEWAY])
    certificates.issue(tmp_path / "theirs", [GATEWAY])
    verifier = PolicyBuilder().store(Store([_ca(tmp_path / "theirs")])).build_server_verifier(x509.DNSName("gateway-a"))
    with pytest.raises(VerificationError):
        verifier.verify(_leaf(tmp_path / "ours", "gateway-a"), [])


def test_the_subject_is_organisation_role_and_name_in_that_order(tmp_path: Path) -> None:
    certificates.issue(tmp_path, [GATEWAY])
    subject = [(a.oid, a.value) for a in _leaf(tmp_path, "gateway-a").subject]
    assert subject == [
        (NameOID.ORGANIZATION_NAME, "Watershed"),
        (NameOID.ORGANIZATIONAL_UNIT_NAME, "gateway"),
        (NameOID.COMMON_NAME, "gateway-a"),
    ]
    assert GATEWAY.subject == "/O=Watershed/OU=gateway/CN=gateway-a"


def test_it_lives_24_hours(tmp_path: Path) -> None:
    now = datetime(2030, 1, 1, tzinfo=UTC)
    (issued,) = certificates.issue(tmp_path, [WORKER], now=now)
    assert issued.not_after == now + timedelta(hours=24)
    assert _leaf(tmp_path, "worker-a").not_valid_after_utc == issued.not_after


def test_keys_are_readable_by_their_owner_alone(tmp_path: Path) -> None:
    certificates.issue(tmp_path, [WORKER])
    files = certificates.files(tmp_path, "worker-a")
    for path in (files.identity, files.key, tmp_path / "ca" / "key.pem", tmp_path / "ca" / "register.json"):
        assert path.stat().st_mode & 0o777 == 0o600, path
    assert files.folder.stat().st_mode & 0o777 == 0o700
    assert (tmp_path / "ca").stat().st_mode & 0o777 == 0o700


def test_the_identity_file_is_a_key_its_certificate_and_the_ca(tmp_path: Path) -> None:
    certificates.issue(tmp_path, [WORKER])
    data = certificates.files(tmp_path, "worker-a").identity.read_bytes()
    key = serialization.load_pem_private_key(data, password=None)
    leaf, ca = x509.load_pem_x509_certificates(data)
    assert key.public_key() == leaf.public_key()
    assert ca == _ca(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificates.files(tmp_path, "worker-a").identity)


def test_issuing_again_keeps_what_is_fresh_and_renews_what_is_due(tmp_path: Path) -> None:
    start = datetime(2030, 1, 1, tzinfo=UTC)
    (first,) = certificates.issue(tmp_path, [WORKER], now=start)
    assert certificates.issue(tmp_path, [WORKER], now=start + timedelta(hours=11)) == [first]
    assert certificates.due(tmp_path, now=start + timedelta(hours=11)) == []
    assert certificates.due(tmp_path, now=start + timedelta(hours=13)) == ["worker-a"]
    (second,) = certificates.issue(tmp_path, [WORKER], now=start + timedelta(hours=13))
    assert second.serial != first.serial
    assert second.not_after == start + timedelta(hours=37)


def test_a_name_keeps_its_role_for_ever(tmp_path: Path) -> None:
    start = datetime(2030, 1, 1, tzinfo=UTC)
    certificates.issue(tmp_path, [WORKER], now=start)
    certificates.issue(tmp_path, [GATEWAY], now=start + timedelta(days=400))
    with pytest.raises(ConfigurationError, match="registered for the role worker"):
        certificates.issue(tmp_path, [Identity("worker-a", "broker")], now=start + timedelta(days=401))


def test_rotation_replaces_key_and_certificate_together_and_keeps_hosts(tmp_path: Path) -> None:
    certificates.issue(tmp_path, [GATEWAY, WORKER])
    before = {name: _leaf(tmp_path, name) for name in ("gateway-a", "worker-a")}
    (rotated,) = certificates.rotate(tmp_path, ["gateway-a"])
    after = _leaf(tmp_path, "gateway-a")
    assert after.serial_number == int(rotated.serial, 16) != before["gateway-a"].serial_number
    assert after.public_key() != before["gateway-a"].public_key()
    assert after.extensions.get_extension_for_class(x509.SubjectAlternativeName) == before[
        "gateway-a"
    ].extensions.get_extension_for_class(x509.SubjectAlternativeName)
    assert _leaf(tmp_path, "worker-a") == before["worker-a"]
    assert list(tmp_path.glob("*/.*")) == []


def test_a_revoked_identity_is_on_the_crl_of_every_other(tmp_path: Path) -> None:
    certificates.issue(tmp_path, [GATEWAY, WORKER])
    certificates.rotate(tmp_path, ["worker-a"])
    revoked = certificates.revoke(tmp_path, "worker-a")
    assert len(revoked) == 2, "the certificate before the rotation is still valid, so it is revoked too"
    for path in (tmp_path / "ca" / "crl.pem", certificates.files(tmp_path, "gateway-a").crl):
        crl = _crl(path)
        assert crl.is_signature_valid(_ca(tmp_path).public_key())  # type: ignore[arg-type]
        assert {entry.serial_number for entry in crl} == {int(c.serial, 16) for c in revoked}
        assert crl.get_revoked_certificate_by_serial_number(_leaf(tmp_path, "gateway-a").serial_number) is None


def test_a_revoked_identity_gets_no_certificate_until_it_is_rotated(tmp_path: Path) -> None:
    certificates.issue(tmp_path, [WORKER])
    certificates.revoke(tmp_path, "worker-a")
    with pytest.raises(ConfigurationError, match="revoked"):
        certificates.issue(tmp_path, [WORKER])
    assert certificates.rotate(tmp_path) == [], "a rotation of everything leaves the revoked alone"
    certificates.rotate(tmp_path, ["worker-a"])
    assert [c.revoked_at for c in certificates.show(tmp_path)] == [None]


def test_an_unknown_name_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="nobody"):
        certificates.revoke(tmp_path, "nobody")
    with pytest.raises(ConfigurationError, match="nobody"):
        certificates.rotate(tmp_path, ["nobody"])


def test_show_lists_the_newest_of_each_name(tmp_path: Path) -> None:
    assert certificates.show(tmp_path / "none") == []
    certificates.issue(tmp_path, [WORKER, GATEWAY])
    certificates.rotate(tmp_path, ["worker-a"])
    shown = certificates.show(tmp_path)
    assert [c.name for c in shown] == ["gateway-a", "worker-a"]
    assert int(shown[1].serial, 16) == _leaf(tmp_path, "worker-a").serial_number
