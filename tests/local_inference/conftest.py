"""The real model, for tests marked ``model``: converted once a machine, loaded once a session."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from local_inference.engines.transformers import TransformersEngine
from local_inference.node import Node
from tests.local_inference.fakes import Caller


@pytest.fixture(scope="session")
def model_cache_dir() -> Path:
    """A stable place, so that the conversion happens once a machine."""
    return Path(os.environ.get("WATERSHED_MODEL_CACHE_DIR") or Path.home() / ".cache" / "watershed" / "models")


@pytest.fixture(scope="session")
def real_engine(model_cache_dir: Path) -> Iterator[TransformersEngine]:
    engine = TransformersEngine(model_cache_dir)
    asyncio.run(engine.load())
    yield engine
    asyncio.run(engine.aclose())


@pytest.fixture
def real(real_engine: TransformersEngine) -> Caller:
    """A node over the real model; the engine outlives it."""
    return Caller(Node(lambda: real_engine))
