"""The tree against RFC 9162: published vectors, and a naive recursive reading of the RFC as the oracle."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from audit.merkle import (
    EMPTY_ROOT,
    Frontier,
    consistency_proof,
    inclusion_proof,
    leaf_hash,
    node_hash,
    verify_consistency,
    verify_inclusion,
)

# Leaves, roots and proofs that the Certificate Transparency project publishes with its reference trees.
LEAVES = [
    bytes.fromhex(leaf)
    for leaf in ("", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f")
]
ROOTS = [
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
]
INCLUSION_0_OF_8 = [
    "96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7",
    "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
    "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4",
]
CONSISTENCY_6_TO_8 = [
    "0ebc5d3437fbe2db158b9f126a1d118e308181031d0a949f8dededebc558ef6a",
    "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
]


def naive_root(leaves: list[bytes]) -> bytes:
    """MTH of RFC 9162, 2.1.1, word by word."""
    if not leaves:
        return hashlib.sha256().digest()
    if len(leaves) == 1:
        return leaf_hash(leaves[0])
    split = 1
    while split * 2 < len(leaves):
        split *= 2
    return node_hash(naive_root(leaves[:split]), naive_root(leaves[split:]))


class Tree:
    def __init__(self, leaves: list[bytes]) -> None:
        self.leaves = leaves

    def nodes(self, level: int, index: int) -> bytes:
        covered = self.leaves[index << level : (index + 1) << level]
        assert len(covered) == 1 << level, "a proof may read complete subtrees only"
        return naive_root(covered)

    def root(self, size: int) -> bytes:
        return naive_root(self.leaves[:size])


def leaves(count: int) -> list[bytes]:
    return [number.to_bytes(2, "big") for number in range(count)]


def test_the_frontier_gives_the_published_roots() -> None:
    frontier = Frontier()
    assert frontier.root() == EMPTY_ROOT
    for leaf, root in zip(LEAVES, ROOTS, strict=True):
        frontier.append(leaf_hash(leaf))
        assert frontier.root().hex() == root


def test_proofs_are_the_published_ones() -> None:
    nodes = Tree(LEAVES).nodes
    assert [node.hex() for node in inclusion_proof(nodes, 0, 8)] == INCLUSION_0_OF_8
    assert [node.hex() for node in consistency_proof(nodes, 6, 8)] == CONSISTENCY_6_TO_8


@given(st.integers(1, 130))
def test_the_frontier_is_the_naive_tree_and_names_every_complete_node_once(size: int) -> None:
    frontier, made = Frontier(), []
    for leaf in leaves(size):
        made += frontier.append(leaf_hash(leaf))
    assert frontier.root() == naive_root(leaves(size))
    assert len(made) == 2 * size - size.bit_count()


@given(st.integers(1, 130), st.data())
def test_an_inclusion_proof_holds_for_its_leaf_place_size_and_root_only(size: int, data: st.DataObject) -> None:
    index = data.draw(st.integers(0, size - 1))
    tree = Tree(leaves(size))
    proof = inclusion_proof(tree.nodes, index, size)
    leaf = leaf_hash(tree.leaves[index])
    assert verify_inclusion(leaf, index, size, proof, tree.root(size))
    assert not verify_inclusion(leaf_hash(b"other"), index, size, proof, tree.root(size))
    assert not verify_inclusion(leaf, index, size, proof, leaf_hash(b"other"))
    assert not verify_inclusion(leaf, index, size, [*proof, leaf], tree.root(size))
    other = data.draw(st.integers(0, size - 1).filter(lambda place: place != index)) if size > 1 else 1
    assert not verify_inclusion(leaf, other, size, proof, tree.root(size))
    if proof:
        at = data.draw(st.integers(0, len(proof) - 1))
        changed = [*proof[:at], bytes(32), *proof[at + 1 :]]
        assert not verify_inclusion(leaf, index, size, changed, tree.root(size))
        assert not verify_inclusion(leaf, index, size, proof[:-1], tree.root(size))


@given(st.integers(0, 130), st.integers(0, 130), st.data())
def test_a_consistency_proof_holds_for_its_two_trees_only(one: int, other: int, data: st.DataObject) -> None:
    old, new = min(one, other), max(one, other)
    tree = Tree(leaves(new))
    proof = consistency_proof(tree.nodes, old, new)
    assert verify_consistency(old, new, tree.root(old), tree.root(new), proof)
    assert not verify_consistency(old, new, leaf_hash(b"other"), tree.root(new), proof)
    if old:
        assert not verify_consistency(old, new, tree.root(old), leaf_hash(b"other"), proof)
    if proof:
        at = data.draw(st.integers(0, len(proof) - 1))
        assert not verify_consistency(
            old, new, tree.root(old), tree.root(new), [*proof[:at], bytes(32), *proof[at + 1 :]]
        )
        assert not verify_consistency(old, new, tree.root(old), tree.root(new), proof[:-1])


@given(st.integers(2, 64), st.data())
def test_a_tree_with_one_early_leaf_changed_is_no_continuation(new: int, data: st.DataObject) -> None:
    old = data.draw(st.integers(1, new - 1))
    changed_at = data.draw(st.integers(0, old - 1))
    honest = Tree(leaves(new))
    forged = Tree([*honest.leaves[:changed_at], b"forged", *honest.leaves[changed_at + 1 :]])
    proof = consistency_proof(forged.nodes, old, new)
    assert not verify_consistency(old, new, honest.root(old), forged.root(new), proof)


def test_what_lies_outside_a_tree_has_no_proof() -> None:
    tree = Tree(leaves(4))
    with pytest.raises(ValueError, match="not in the tree"):
        inclusion_proof(tree.nodes, 4, 4)
    with pytest.raises(ValueError, match="cannot be the larger"):
        consistency_proof(tree.nodes, 5, 4)
    with pytest.raises(ValueError, match="one 32-byte hash"):
        Frontier(3, [bytes(32)])
    assert not verify_inclusion(bytes(32), 4, 4, [], bytes(32))
    assert not verify_consistency(5, 4, bytes(32), bytes(32), [])
