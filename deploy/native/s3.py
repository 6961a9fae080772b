"""The object store: versitygw, S3 over TLS on a folder, with versioning and object lock.

It takes no client certificates: each identity that holds ``Secret.OBJECTS`` has an access key of its own, and bucket
policies say who may touch which bucket. Objects are sealed before they come here; nothing relies on the store's own
encryption.
"""

from __future__ import annotations

import json
import os
import secrets
import ssl
import urllib.error
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

import msgspec

from deploy.native import packages
from deploy.native.driver import PROBE_TIMEOUT_S, Launch
from deploy.site import Site
from deploy.topology import Kind, Secret, Service
from runtime.errors import ConfigurationError

TOOL = packages.GoTool("github.com/versity/versitygw/cmd/versitygw", "v1.8.0", "versitygw", (1, 25), 60)
OBJECTS_BUCKET = "watershed-objects"
WITNESS_BUCKET = "watershed-witness"
WITNESS_RETENTION_DAYS = 30
REGION = "us-east-1"
ROOT_ACCOUNT = "root"
_HEALTH_PATH = "/health"
_TIMEOUT_S = 10


class AccessKey(msgspec.Struct, frozen=True):
    access: str
    secret: str


def requirements() -> Sequence[packages.Requirement]:
    tool = () if packages.find_program("versitygw") else (TOOL,)
    return (*tool, packages.PythonModule("boto3", 28))


def needs(site: Site, service: Service) -> Sequence[str]:
    return service.needs


def prepare(site: Site, service: Service) -> None:
    home = site.home(service)
    for name in ("data", "versions", "accounts"):
        (home / name).mkdir(mode=0o700, parents=True, exist_ok=True)


def launch(site: Site, service: Service) -> Launch:
    home, files, root = site.home(service), site.files(service.name), access_key(site, ROOT_ACCOUNT)
    argv = (
        packages.find_program("versitygw") or str(TOOL.path),
        f"--port={site.listen(service, 'https')}",
        f"--cert={files.certificate}",
        f"--key={files.key}",
        f"--iam-dir={home / 'accounts'}",
        f"--region={REGION}",
        f"--health={_HEALTH_PATH}",
        "--quiet",
        "posix",
        f"--versioning-dir={home / 'versions'}",
        str(home / "data"),
    )
    return Launch(argv, cwd=home, environment={"ROOT_ACCESS_KEY": root.access, "ROOT_SECRET_KEY": root.secret})


def healthy(site: Site, service: Service) -> bool:
    url = f"https://{site.address(service, 'https')}{_HEALTH_PATH}"
    context = ssl.create_default_context(cafile=str(site.files(service.name).ca))
    try:
        with urllib.request.urlopen(url, timeout=PROBE_TIMEOUT_S, context=context) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


def settle(site: Site, services: Sequence[Service]) -> None:
    """Accounts, two buckets, versioning, the witness's object lock, and the policies.

    The bucket's default retention refuses deletion, but versitygw's root could still set a weaker one on an object that has
    none of its own: so the witness names mode and date with each object, which nobody can take back.
    """
    from botocore.exceptions import BotoCoreError, ClientError

    if not services:
        return
    try:
        for name in _holders(site):
            _create_account(site, services[0], access_key(site, name))
        storage = client(site, services[0], ROOT_ACCOUNT)
        present = {bucket["Name"] for bucket in storage.list_buckets()["Buckets"]}
        if OBJECTS_BUCKET not in present:
            storage.create_bucket(Bucket=OBJECTS_BUCKET)
        if WITNESS_BUCKET not in present:
            storage.create_bucket(Bucket=WITNESS_BUCKET, ObjectLockEnabledForBucket=True)
        for bucket in (OBJECTS_BUCKET, WITNESS_BUCKET):
            storage.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
        storage.put_object_lock_configuration(
            Bucket=WITNESS_BUCKET,
            ObjectLockConfiguration={
                "ObjectLockEnabled": "Enabled",
                "Rule": {"DefaultRetention": {"Mode": "COMPLIANCE", "Days": WITNESS_RETENTION_DAYS}},
            },
        )
        for bucket, policy in bucket_policies(site).items():
            storage.put_bucket_policy(Bucket=bucket, Policy=json.dumps(policy))
    except (BotoCoreError, ClientError, OSError) as error:
        raise ConfigurationError(f"the object store refuses its set-up: {error}") from None


def bucket_policies(site: Site) -> dict[str, dict[str, Any]]:
    """Who may do what: gateways and workers share objects; the witness alone adds to its bucket and deletes nothing."""
    by_kind = {
        kind: [s.name for s in site.topology.of(kind) if Secret.OBJECTS in s.secrets]
        for kind in (Kind.GATEWAY, Kind.WORKER, Kind.WITNESS)
    }
    return {
        OBJECTS_BUCKET: _policy(
            OBJECTS_BUCKET,
            by_kind[Kind.GATEWAY] + by_kind[Kind.WORKER],
            ["s3:GetObject", "s3:PutObject", "s3:DeleteObject", "s3:AbortMultipartUpload"],
        ),
        WITNESS_BUCKET: _policy(
            WITNESS_BUCKET,
            by_kind[Kind.WITNESS],
            ["s3:GetObject", "s3:PutObject", "s3:GetObjectRetention", "s3:PutObjectRetention"],
        ),
    }


def make_keys(site: Site) -> None:
    """An access key for the root account and for each identity that holds ``Secret.OBJECTS``, where it has none.

    The store's own folder of certificates keeps all of them, as it must; each identity's keeps its own.
    """
    for name in (ROOT_ACCOUNT, *_holders(site)):
        kept = _kept_key_path(site, name)
        if not kept.exists():
            _write_private(kept, msgspec.json.encode(AccessKey(name, secrets.token_urlsafe(32))))
        if name != ROOT_ACCOUNT:
            _write_private(key_path(site, name), kept.read_bytes())


def access_key(site: Site, name: str) -> AccessKey:
    """The access key of an identity, as the store has it.

    Raises:
        ConfigurationError: it has none.
    """
    try:
        return msgspec.json.decode(_kept_key_path(site, name).read_bytes(), type=AccessKey)
    except (OSError, msgspec.MsgspecError):
        raise ConfigurationError(f"{name} has no access key to the object store") from None


def key_path(site: Site, name: str) -> Path:
    """Where the identity ``name`` finds its own access key: JSON with ``access`` and ``secret``."""
    return site.files(name).folder / "object-key.json"


def client(site: Site, service: Service, name: str) -> Any:
    """boto3's client as the identity ``name``: our CA, path-style addresses, no proxies, short deadlines."""
    import boto3
    from botocore.config import Config

    key = access_key(site, name)
    return boto3.client(
        "s3",
        endpoint_url=f"https://{site.address(service, 'https')}",
        aws_access_key_id=key.access,
        aws_secret_access_key=key.secret,
        region_name=REGION,
        verify=str(site.files(service.name).ca),
        config=Config(
            connect_timeout=_TIMEOUT_S,
            read_timeout=_TIMEOUT_S,
            retries={"max_attempts": 1},
            signature_version="s3v4",
            s3={"addressing_style": "path"},
            proxies={},
        ),
    )


def _holders(site: Site) -> list[str]:
    return [service.name for service in site.topology if Secret.OBJECTS in service.secrets]


def _kept_key_path(site: Site, name: str) -> Path:
    (store,) = site.topology.of(Kind.OBJECT_STORE)
    return site.files(store.name).folder / "accounts" / f"{name}.json"


def _write_private(path: Path, data: bytes) -> None:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        os.write(descriptor, data)
    finally:
        os.close(descriptor)
    draft.replace(path)


def _policy(bucket: str, names: list[str], object_actions: list[str]) -> dict[str, Any]:
    principal = {"AWS": names}
    return {
        "Version": "2012-10-17",
        "Statement": [
            {
                "Effect": "Allow",
                "Principal": principal,
                "Action": object_actions,
                "Resource": [f"arn:aws:s3:::{bucket}/*"],
            },
            {
                "Effect": "Allow",
                "Principal": principal,
                "Action": ["s3:ListBucket"],
                "Resource": [f"arn:aws:s3:::{bucket}"],
            },
        ],
    }


def _create_account(site: Site, service: Service, key: AccessKey) -> None:
    """versitygw's own administration call: no tool passes a secret but on its command line, which others can read."""
    from botocore.auth import S3SigV4Auth
    from botocore.awsrequest import AWSRequest
    from botocore.credentials import Credentials

    root = access_key(site, ROOT_ACCOUNT)
    body = (
        f"<Account><Access>{escape(key.access)}</Access><Secret>{escape(key.secret)}</Secret>"
        "<Role>user</Role><UserID>0</UserID><GroupID>0</GroupID><ProjectID>0</ProjectID></Account>"
    ).encode()
    url = f"https://{site.address(service, 'https')}/create-user"
    signed = AWSRequest("PATCH", url, data=body, headers={"Content-Length": str(len(body))})
    S3SigV4Auth(Credentials(root.access, root.secret), "s3", REGION).add_auth(signed)
    context = ssl.create_default_context(cafile=str(site.files(service.name).ca))
    request = urllib.request.Request(url, data=body, headers=dict(signed.headers), method="PATCH")
    try:
        with urllib.request.urlopen(request, timeout=_TIMEOUT_S, context=context):  # noqa: S310
            return
    except urllib.error.HTTPError as error:
        if error.code != 409:  # 409: it has the account
            raise
