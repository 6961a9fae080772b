"""One signature for many clearances."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from audit.merkle import Frontier, inclusion_proof, leaf_hash, node_hash, verify_inclusion
from cloud_bridge.batch import prove_all


@given(st.lists(st.binary(max_size=8), min_size=1, max_size=40))
def test_the_root_is_the_logs_root_and_every_path_leads_to_it(leaves: list[bytes]) -> None:
    frontier = Frontier()
    for leaf in leaves:
        frontier.append(leaf_hash(leaf))

    root, paths = prove_all(leaves)

    assert root == frontier.root()
    for index, (leaf, path) in enumerate(zip(leaves, paths, strict=True)):
        assert verify_inclusion(leaf_hash(leaf), index, len(leaves), path, root)


@given(st.integers(1, 40), st.data())
def test_paths_are_those_of_rfc_9162(size: int, data: st.DataObject) -> None:
    leaves = [number.to_bytes(2, "big") for number in range(size)]
    index = data.draw(st.integers(0, size - 1))

    def nodes(level: int, at: int) -> bytes:
        if level == 0:
            return leaf_hash(leaves[at])
        return node_hash(nodes(level - 1, 2 * at), nodes(level - 1, 2 * at + 1))

    assert list(prove_all(leaves)[1][index]) == inclusion_proof(nodes, index, size)
