"""Sealing: who carries a message can neither read nor change it.

    request:  header │ HPKE(pool key, request key) │ AES-256-GCM(request key, padded call)
    answer 0: header │ HPKE(instance key, share)   │ AES-256-GCM(answer key, nonce 0, padded frame)
    answer n: header │                               AES-256-GCM(answer key, nonce n, padded frame)

Suite ``intl``: HPKE (RFC 9180) in base mode with X25519, HKDF-SHA256 and AES-256-GCM; a fresh AES-256-GCM key a request
and an answer. The header is associated data of both layers; an answer's chunks bind their number and the end mark too
(the STREAM construction of Hoang, Reyhanitabar, Rogaway and Vizár, 2015). HPKE's base mode does not say who sealed, so
the answer key is made from the worker's share *and* a secret of the request: only who opened the request can answer it,
and only who sealed it can cancel it.
"""

from __future__ import annotations

import hmac
import os
from collections import deque
from collections.abc import Mapping

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hpke import AEAD, KDF, KEM, Suite

from cloud_bridge.messages import HEADER_BYTES, PREFIX_BYTES, Header, Schema, read_header
from runtime.errors import SealingError

BUCKET_BYTES = 256
KEY_BYTES = 32
TAG_BYTES = 16
WRAPPED_BYTES = 32 + KEY_BYTES + TAG_BYTES  # HPKE: encapsulated key, sealed key, tag
_RECENT_CHUNKS = 64

_suite = Suite(KEM.X25519, KDF.HKDF_SHA256, AEAD.AES_256_GCM)
_REQUEST_INFO = b"watershed request 1\x00"
_ANSWER_INFO = b"watershed answer 1\x00"


def pad(buffer: bytearray) -> bytearray:
    """Write the payload's length into the room before it and fill up to the next 256 bytes, in place."""
    buffer[:PREFIX_BYTES] = (len(buffer) - PREFIX_BYTES).to_bytes(PREFIX_BYTES, "big")
    buffer.extend(bytes(-len(buffer) % BUCKET_BYTES))
    return buffer


def unpad(padded: bytes) -> memoryview:
    """The payload inside.

    Raises:
        SealingError: not padded as ``pad`` does.
    """
    length = int.from_bytes(padded[:PREFIX_BYTES], "big")
    if len(padded) % BUCKET_BYTES or not 0 <= len(padded) - PREFIX_BYTES - length < BUCKET_BYTES:
        raise SealingError("the padding is wrong", code="seal_padding")
    return memoryview(padded)[PREFIX_BYTES : PREFIX_BYTES + length]


class SealedRequest(msgspec.Struct, frozen=True):
    """``secret`` ties answers and cancellation to this request; it never leaves the two ends."""

    message: bytes
    secret: bytes


class OpenedRequest(msgspec.Struct, frozen=True):
    header: Header
    payload: memoryview
    secret: bytes


def seal_request(header: Header, buffer: bytearray, recipient_key: X25519PublicKey) -> SealedRequest:
    """Seal a call (as ``messages.encode`` gives it; the buffer is used up) to a worker pool's key."""
    packed = header.pack()
    key = os.urandom(KEY_BYTES)
    wrapped = _suite.encrypt(key, recipient_key, _REQUEST_INFO + packed)
    sealed = AESGCM(_derive(key, b"request")).encrypt(_nonce(0), pad(buffer), packed)
    return SealedRequest(b"".join((packed, wrapped, sealed)), _derive(key, b"binding"))


def open_request(message: bytes, keys: Mapping[int, X25519PrivateKey]) -> OpenedRequest:
    """Open a request with the pool's key of the epoch that its header names.

    Raises:
        SealingError: truncated, changed, of another schema, suite or epoch, or sealed to another pool.
    """
    header = read_header(message, Schema.INTL_REQUEST)
    private_key = keys.get(header.key_epoch)
    if private_key is None:
        raise SealingError("there is no key of this epoch", code="seal_epoch")
    packed, start = message[:HEADER_BYTES], HEADER_BYTES + WRAPPED_BYTES
    key = _unwrap(message, private_key, _REQUEST_INFO + packed)
    try:
        padded = AESGCM(_derive(key, b"request")).decrypt(_nonce(0), memoryview(message)[start:], packed)
    except InvalidTag:
        raise SealingError("the seal does not hold") from None
    return OpenedRequest(header, unpad(padded), _derive(key, b"binding"))


class AnswerSealer:
    """Seals the chunks of one answer, in order, to the gateway instance that asked.

    Args:
        header: of every chunk: the request's message id and deadline, the epoch of the instance's lease.
        secret: of the opened request.
    """

    def __init__(self, header: Header, public_key: X25519PublicKey, secret: bytes) -> None:
        self._packed = header.pack()
        share = os.urandom(KEY_BYTES)
        self._wrapped = _suite.encrypt(share, public_key, _ANSWER_INFO + self._packed)
        self._cipher = AESGCM(_answer_key(secret, share))
        self._next = 0

    def seal(self, buffer: bytearray, *, end: bool) -> bytes:
        """The next chunk's message; ``buffer`` as ``messages.encode`` gives it, used up."""
        number, self._next = self._next, self._next + 1
        sealed = self._cipher.encrypt(_nonce(number), pad(buffer), _chunk_data(self._packed, number, end))
        return b"".join((self._packed, b"" if number else self._wrapped, sealed))


class AnswerOpener:
    """Opens the chunks of one answer, in order.

    The number and the end mark do not stand outside the seal: the opener knows which number must come, and tries the
    end mark only where the chunk does not open without.
    """

    def __init__(self, header: Header, private_key: X25519PrivateKey, secret: bytes) -> None:
        self._packed = header.pack()
        self._private_key = private_key
        self._secret = secret
        self._cipher: AESGCM | None = None
        self._next = 0
        self._ended = False
        self._recent: deque[bytes] = deque(maxlen=_RECENT_CHUNKS)

    def open(self, message: bytes) -> tuple[memoryview, bool] | None:
        """Payload and end mark of the next chunk; None for an exact repetition of a recent one.

        Raises:
            SealingError: changed, truncated, swapped, left out, from another answer, or after the end.
        """
        tag = message[-TAG_BYTES:]
        if tag in self._recent:
            return None
        if self._ended or message[:HEADER_BYTES] != self._packed:
            raise SealingError("the chunk belongs to no open answer")
        start = HEADER_BYTES
        if self._cipher is None:
            share = _unwrap(message, self._private_key, _ANSWER_INFO + self._packed)
            self._cipher = AESGCM(_answer_key(self._secret, share))
            start += WRAPPED_BYTES
        padded, end = self._decrypt(self._cipher, memoryview(message)[start:])
        self._recent.append(tag)
        self._next += 1
        self._ended = end
        return unpad(padded), end

    def _decrypt(self, cipher: AESGCM, sealed: memoryview) -> tuple[bytes, bool]:
        nonce = _nonce(self._next)
        for end in (False, True):
            try:
                return cipher.decrypt(nonce, sealed, _chunk_data(self._packed, self._next, end)), end
            except InvalidTag:
                continue
        raise SealingError("the seal does not hold")


def seal_cancellation(request: Header, secret: bytes) -> bytes:
    """A cancellation of the request with this header: nothing inside but proof that its sender sealed the request."""
    packed = Header(Schema.INTL_CANCEL, request.message_id, request.deadline_us, request.key_epoch).pack()
    return packed + _derive(secret, packed)


def check_cancellation(message: bytes, secret: bytes) -> None:
    """Raises SealingError where the cancellation is not from who sealed the request."""
    if not hmac.compare_digest(message[HEADER_BYTES:], _derive(secret, message[:HEADER_BYTES])):
        raise SealingError("the cancellation is not from the request's sender")


def _unwrap(message: bytes, private_key: X25519PrivateKey, info: bytes) -> bytes:
    # A whole answer has at least one bucket and a tag behind the wrapped key.
    if len(message) < HEADER_BYTES + WRAPPED_BYTES + BUCKET_BYTES + TAG_BYTES:
        raise SealingError("the message is truncated", code="seal_truncated")
    try:
        return _suite.decrypt(message[HEADER_BYTES : HEADER_BYTES + WRAPPED_BYTES], private_key, info)
    except (InvalidTag, ValueError):
        raise SealingError("the seal does not hold") from None


def _derive(key: bytes, label: bytes) -> bytes:
    return hmac.digest(key, b"watershed " + label, "sha256")


def _answer_key(secret: bytes, share: bytes) -> bytes:
    return _derive(secret, b"answer " + share)


def _nonce(number: int) -> bytes:
    return number.to_bytes(12, "big")


def _chunk_data(packed: bytes, number: int, end: bool) -> bytes:
    return b"".join((packed, number.to_bytes(8, "big"), b"\x01" if end else b"\x00"))
