"""Whatever is measured: one class a file, in the order of the table."""

from __future__ import annotations

from benchmarks.gateway.peers.base import InstallError, Peer, Place
from benchmarks.gateway.peers.direct import Direct
from benchmarks.gateway.peers.envoy import Envoy
from benchmarks.gateway.peers.floor import Floor
from benchmarks.gateway.peers.litellm import LiteLLM
from benchmarks.gateway.peers.portkey import Portkey
from benchmarks.gateway.peers.tensorzero import TensorZero
from benchmarks.gateway.peers.watershed import Watershed

PEERS: tuple[type[Peer], ...] = (Direct, Watershed, Floor, LiteLLM, Portkey, TensorZero, Envoy)

__all__ = ["PEERS", "InstallError", "Peer", "Place"]
