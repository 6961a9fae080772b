"""Merkle trees as RFC 9162 (section 2.1) defines them: hashing, a growing frontier, proofs and their checks.

             root = n(n(a b) n(c d)) · e
             /                \\
          n(ab cd)             e          five leaves: the frontier is [n(ab cd), e],
          /      \\                        the roots of the largest complete subtrees from the left
       n(a b)   n(c d)
       /   \\     /   \\
      a     b   c     d

Own code, because the libraries at hand are under the GPL (pymerkle) or own the storage of their trees; here the log's
writer keeps the frontier only and proofs read complete subtrees from a file (``audit.nodes``). A node is named by its
level (0 for leaves) and its index from the left within that level; all hashes are 32 bytes of SHA-256.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence

HASH_BYTES = 32
EMPTY_ROOT = hashlib.sha256(b"").digest()

Nodes = Callable[[int, int], bytes]
"""``nodes(level, index)``: the hash of the complete subtree over leaves ``index << level`` up to ``index + 1 << level``."""


def leaf_hash(data: bytes) -> bytes:
    """SHA-256(0x00 || data) (RFC 9162, 2.1.1)."""
    return hashlib.sha256(b"\x00" + data).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """SHA-256(0x01 || left || right) (RFC 9162, 2.1.1)."""
    return hashlib.sha256(b"\x01" + left + right).digest()


class Frontier:
    """A tree that only grows: its size and its complete subtrees' roots, largest first. At most 64 hashes."""

    __slots__ = ("peaks", "size")

    def __init__(self, size: int = 0, peaks: Sequence[bytes] = ()) -> None:
        """Raises ValueError where ``peaks`` cannot belong to a tree of ``size`` leaves."""
        if size < 0 or len(peaks) != size.bit_count() or any(len(peak) != HASH_BYTES for peak in peaks):
            raise ValueError("a frontier has one 32-byte hash for each one bit of its size")
        self.size = size
        self.peaks = list(peaks)

    def append(self, leaf: bytes) -> list[bytes]:
        """Add a leaf's hash; return the complete nodes that came to be: the leaf, its parent, and so on upwards."""
        made = [leaf]
        node, size = leaf, self.size
        while size & 1:
            node = node_hash(self.peaks.pop(), node)
            made.append(node)
            size >>= 1
        self.peaks.append(node)
        self.size += 1
        return made

    def root(self) -> bytes:
        """The tree's hash (RFC 9162, 2.1.1)."""
        return root_of_peaks(self.peaks)


def root_of_peaks(peaks: Sequence[bytes]) -> bytes:
    """The root of the tree whose complete subtrees, largest first, have these hashes."""
    if not peaks:
        return EMPTY_ROOT
    root = peaks[-1]
    for peak in reversed(peaks[:-1]):
        root = node_hash(peak, root)
    return root


def inclusion_proof(nodes: Nodes, index: int, size: int) -> list[bytes]:
    """The audit path of leaf ``index`` in the tree of the first ``size`` leaves (RFC 9162, 2.1.3.1).

    Raises:
        ValueError: there is no such leaf in that tree.
    """
    if not 0 <= index < size:
        raise ValueError("the leaf is not in the tree")
    path: list[bytes] = []
    start, end = 0, size
    while end - start > 1:
        middle = start + _split(end - start)
        if index < middle:
            path.append(_range_root(nodes, middle, end))
            end = middle
        else:
            path.append(_range_root(nodes, start, middle))
            start = middle
    path.reverse()
    return path


def consistency_proof(nodes: Nodes, old: int, new: int) -> list[bytes]:
    """That the tree of ``old`` leaves is the beginning of that of ``new`` (RFC 9162, 2.1.4.1); empty for an empty or same tree.

    Raises:
        ValueError: ``old`` is larger than ``new``.
    """
    if not 0 <= old <= new:
        raise ValueError("the older tree cannot be the larger")
    if old in (0, new):
        return []
    path: list[bytes] = []
    start, end, known = 0, new, True  # known: the verifier has the hash of [start, old) as the old root
    while end != old:
        middle = start + _split(end - start)
        if old <= middle:
            path.append(_range_root(nodes, middle, end))
            end = middle
        else:
            path.append(_range_root(nodes, start, middle))
            start, known = middle, False
    if not known:
        path.append(_range_root(nodes, start, end))
    path.reverse()
    return path


def verify_inclusion(leaf: bytes, index: int, size: int, proof: Sequence[bytes], root: bytes) -> bool:
    """Whether ``proof`` shows the leaf with hash ``leaf`` at ``index`` of the tree with ``root`` (RFC 9162, 2.1.3.2)."""
    if not 0 <= index < size:
        return False
    fn, sn, found = index, size - 1, leaf
    for node in proof:
        if sn == 0:
            return False
        if fn & 1 or fn == sn:
            found = node_hash(node, found)
            while not fn & 1 and fn:
                fn, sn = fn >> 1, sn >> 1
        else:
            found = node_hash(found, node)
        fn, sn = fn >> 1, sn >> 1
    return sn == 0 and found == root


def verify_consistency(old: int, new: int, old_root: bytes, new_root: bytes, proof: Sequence[bytes]) -> bool:
    """Whether ``proof`` shows that the older tree is the beginning of the newer (RFC 9162, 2.1.4.2).

    An empty older tree is the beginning of every tree; its root must be the empty root.
    """
    if not 0 <= old <= new:
        return False
    if old == new:
        return not proof and old_root == new_root
    if old == 0:
        return not proof and old_root == EMPTY_ROOT
    path = [old_root, *proof] if old.bit_count() == 1 else list(proof)
    if not path:
        return False
    fn, sn = old - 1, new - 1
    while fn & 1:
        fn, sn = fn >> 1, sn >> 1
    fr = sr = path[0]
    for node in path[1:]:
        if sn == 0:
            return False
        if fn & 1 or fn == sn:
            fr, sr = node_hash(node, fr), node_hash(node, sr)
            while not fn & 1 and fn:
                fn, sn = fn >> 1, sn >> 1
        else:
            sr = node_hash(sr, node)
        fn, sn = fn >> 1, sn >> 1
    return sn == 0 and fr == old_root and sr == new_root


def _split(size: int) -> int:
    """The largest power of two below ``size`` (at least 2)."""
    return 1 << ((size - 1).bit_length() - 1)


def _range_root(nodes: Nodes, start: int, end: int) -> bytes:
    """The root over leaves ``start`` up to ``end``, of which ``start`` is a multiple of the range's largest subtree."""
    peaks: list[bytes] = []
    while start < end:
        level = (end - start).bit_length() - 1
        peaks.append(nodes(level, start >> level))
        start += 1 << level
    return root_of_peaks(peaks)
