"""SmolLM2-135M-Instruct through transformers, token by token, in threads of its own.

    event loop ──request──▶ worker thread: prefill, then step ⟲ ──deltas──▶ bounded queue ──▶ event loop
                └─────────── cancelled: threading.Event, read before every step ┘

The steps are our own rather than ``model.generate``'s: each request has its own random generator (so that a seed means
something with two answers under way), a long prompt is read in pieces between which it can be cancelled, and text that
looks like the model's control tokens stays text.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import AsyncGenerator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

from local_inference.engines.base import Delta, FinishReason, GenerationRequest
from local_inference.engines.decoding import StopFilter, TokenText
from local_inference.engines.prompt import turns
from local_inference.engines.weights import REMEDY, converted_model, find_gguf
from runtime.errors import ConfigurationError, InvalidRequestError, UnavailableError

if TYPE_CHECKING:
    import torch

MODEL_ID = "smollm2-135m-instruct"
DEFAULT_MAX_TOKENS = 256
PREFILL_TOKENS = 256
MAX_PARALLEL = 4
MIN_TEMPERATURE = 1e-4  # below it the division overflows, and nothing is left to draw

# Nothing calls home (docs/threat-model.md, rule 12): read by the Hugging Face libraries when they are imported.
_OFFLINE = {
    "HF_HUB_OFFLINE": "1",
    "TRANSFORMERS_OFFLINE": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "DO_NOT_TRACK": "1",
    "TQDM_DISABLE": "1",
    "TOKENIZERS_PARALLELISM": "false",
}


class TransformersEngine:
    """The built-in model, on a GPU (bfloat16) where there is one, else on the CPU (float32).

    Args:
        models_dir: where the converted model is kept.
        threads: CPU threads of one step; None leaves it to torch.
    """

    model_id = MODEL_ID

    def __init__(self, models_dir: Path, threads: int | None = None) -> None:
        self._models_dir = models_dir
        self._threads = threads
        self._model: _Model | None = None
        # Answers under way are the scheduler's to limit; this only bounds the threads.
        self._workers = ThreadPoolExecutor(MAX_PARALLEL, thread_name_prefix=MODEL_ID)
        self._stopping: set[threading.Event] = set()

    @property
    def ready(self) -> bool:
        return self._model is not None

    async def load(self) -> None:
        """Load the model, converting it first if this machine never did. Safe to call again.

        Raises:
            ConfigurationError: the ``onprem`` extra is not installed.
            UnavailableError: the model cannot be read or its cache not be written.
        """
        if self._model is None:
            loop = asyncio.get_running_loop()
            self._model = await loop.run_in_executor(self._workers, _load, self._models_dir, self._threads)

    async def generate(self, request: GenerationRequest) -> AsyncGenerator[Delta, None]:
        """The answer, a delta a token.

        Raises:
            InvalidRequestError: the prompt does not fit the context.
            UnavailableError: the engine is not loaded, or was closed.
        """
        model = self._model
        if model is None:
            raise UnavailableError("the local model is not loaded", code="model_not_loaded")
        loop = asyncio.get_running_loop()
        # One item a token and one end: the context bounds them, so the worker thread never waits for a reader.
        queue: asyncio.Queue[Delta | Exception | None] = asyncio.Queue(model.context + 2)
        cancelled = threading.Event()

        def work() -> None:
            try:
                for delta in _answer(model, request, cancelled):
                    loop.call_soon_threadsafe(queue.put_nowait, delta)
                loop.call_soon_threadsafe(queue.put_nowait, None)
            except Exception as error:
                loop.call_soon_threadsafe(queue.put_nowait, error)

        self._stopping.add(cancelled)
        working = loop.run_in_executor(self._workers, work)
        try:
            while (item := await queue.get()) is not None:
                if isinstance(item, Exception):
                    raise item
                yield item
            if cancelled.is_set():
                raise UnavailableError("the local model is shutting down", code="node_closing")
        finally:
            cancelled.set()
            self._stopping.discard(cancelled)
            await asyncio.wait([working])  # a slot is free only when its thread is

    async def aclose(self) -> None:
        for cancelled in self._stopping:
            cancelled.set()
        self._workers.shutdown(wait=False)  # work not yet begun begins, finds itself cancelled, and ends
        self._model = None


class _Model:
    """The loaded weights and tokeniser."""

    def __init__(self, network: Any, tokenizer: Any, make_cache: Callable[[], Any], device: torch.device) -> None:
        self.network = network
        self.make_cache = make_cache
        self.device = device
        self.context: int = network.config.max_position_embeddings
        self._tokenizer = tokenizer
        self._begin: int = tokenizer.token_to_id("<|im_start|>")
        self.end: int = tokenizer.token_to_id("<|im_end|>")
        self._special = frozenset(tokenizer.get_added_tokens_decoder())

    def encode(self, request: GenerationRequest) -> list[int]:
        """The prompt in ChatML. Control tokens are put between the texts, and never read from them."""
        ids: list[int] = []
        for role, text in turns(request):
            ids += [self._begin, *self._ids(f"{role}\n{text}"), self.end, *self._ids("\n")]
        return [*ids, self._begin, *self._ids(f"assistant\n{request.prefix}")]

    def spell(self, token: int) -> str:
        """A token as the vocabulary spells it; control tokens say nothing."""
        return "" if token in self._special else str(self._tokenizer.id_to_token(token))

    def _ids(self, text: str) -> list[int]:
        return list(self._tokenizer.encode(text, add_special_tokens=False).ids)


def _load(models_dir: Path, threads: int | None) -> _Model:
    find_gguf()
    os.environ.update(_OFFLINE)
    try:
        import torch
        from tokenizers import Tokenizer
        from transformers import DynamicCache
        from transformers.models.llama.modeling_llama import LlamaForCausalLM
    except ImportError:
        message = f"the local model's libraries are not installed: {REMEDY}"
        raise ConfigurationError(message, code="model_not_installed") from None
    folder = converted_model(models_dir)
    on_gpu = torch.cuda.is_available()
    if threads is not None:
        torch.set_num_threads(threads)
    try:
        tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        dtype = torch.bfloat16 if on_gpu else torch.float32
        network = LlamaForCausalLM.from_pretrained(folder, dtype=dtype, local_files_only=True)
    except Exception as error:
        raise UnavailableError(
            f"the model in {folder} cannot be read ({type(error).__name__}): remove that folder to convert it again",
            code="model_unreadable",
        ) from None
    tokenizer.encode_special_tokens = True  # "<|im_end|>" in a message is text, not the end of a turn
    device = torch.device("cuda" if on_gpu else "cpu")
    network = network.to(device).eval()
    return _Model(network, tokenizer, lambda: DynamicCache(config=network.config), device)


def _answer(model: _Model, request: GenerationRequest, cancelled: threading.Event) -> Iterator[Delta]:
    """Deltas of one answer; ends without a finish reason once ``cancelled``. Runs in a worker thread."""
    prompt = model.encode(request)
    room = model.context - len(prompt)
    if room < 1:
        raise InvalidRequestError(
            f"the prompt has {len(prompt)} tokens, the model's context {model.context}",
            code="context_length_exceeded", param="/messages",
        )  # fmt: skip
    limit = min(request.max_tokens or DEFAULT_MAX_TOKENS, room)
    characters, stops = TokenText(), StopFilter(request.stop)
    for count, token in enumerate(_tokens(model, prompt, request, cancelled), start=1):
        text = stops.push(characters.push(model.spell(token)))
        finish: FinishReason | None = None
        if stops.stopped or token == model.end:
            finish = "stop"
        elif count == limit:
            finish = "length"
        if finish is not None:
            text += stops.flush()
        yield Delta(text, finish, len(prompt), count)
        if finish is not None:
            return


def _tokens(model: _Model, prompt: list[int], request: GenerationRequest, cancelled: threading.Event) -> Iterator[int]:
    import torch

    cache = model.make_cache()
    choose = _sampler(request, model.device)

    def step(ids: list[int]) -> torch.Tensor:
        with torch.inference_mode():
            batch = torch.tensor([ids], device=model.device)
            logits: torch.Tensor = model.network(input_ids=batch, cache=cache, use_cache=True, logits_to_keep=1).logits
            return logits[0, -1].float()

    for start in range(0, len(prompt), PREFILL_TOKENS):
        if cancelled.is_set():
            return
        logits = step(prompt[start : start + PREFILL_TOKENS])
    while not cancelled.is_set():
        token = choose(logits)
        yield token
        logits = step([token])


def _sampler(request: GenerationRequest, device: torch.device) -> Callable[[torch.Tensor], int]:
    """Greedy at temperature 0, else nucleus sampling (Holtzman et al., 2020) from a generator of the request's own."""
    import torch

    if request.temperature == 0:
        return lambda logits: int(logits.argmax())
    generator = torch.Generator(device)
    if request.seed is None:
        generator.seed()
    else:
        generator.manual_seed(request.seed)

    temperature = max(request.temperature, MIN_TEMPERATURE)

    def choose(logits: torch.Tensor) -> int:
        probabilities, tokens = torch.softmax(logits / temperature, dim=-1).sort(descending=True)
        before = probabilities.cumsum(0) - probabilities
        probabilities[before >= request.top_p] = 0
        drawn = int(torch.multinomial(probabilities, 1, generator=generator))
        return int(tokens[drawn])

    return choose
