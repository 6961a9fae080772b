"""One signature for many statements: a Merkle tree over one group commit, with a path for each leaf (RFC 9162, 2.1).

        root ◀── signed once
       /    \\
      n      c          a's path is (b, c); c's is (n)
     / \\
    a   b

``audit.merkle`` proves single leaves of a log that grows; here all leaves are known at once and each needs its path, so
the tree is built bottom-up in one pass. Paths are checked by ``audit.merkle.verify_inclusion``.
"""

from __future__ import annotations

from collections.abc import Sequence

from audit.merkle import leaf_hash, node_hash


def prove_all(leaves: Sequence[bytes]) -> tuple[bytes, list[tuple[bytes, ...]]]:
    """The root over ``leaves`` (at least one) and, for each, the 32-byte siblings from the leaf upwards."""
    level = [leaf_hash(leaf) for leaf in leaves]
    paths: list[list[bytes]] = [[] for _ in leaves]
    height = 0
    while len(level) > 1:
        for index, path in enumerate(paths):
            sibling = (index >> height) ^ 1
            if sibling < len(level):
                path.append(level[sibling])
        above = [node_hash(level[i], level[i + 1]) for i in range(0, len(level) - 1, 2)]
        if len(level) % 2:
            above.append(level[-1])  # the odd one rises unchanged, as in the RFC's recursive definition
        level = above
        height += 1
    return level[0], [tuple(path) for path in paths]
