"""Finds the model of the extra `vectors` and loads it when it is first needed, in a thread."""

import asyncio
import logging
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from bmad_mcp.errors import Unavailable

if TYPE_CHECKING:
    from bmad_mcp.memory.embedding_model import EmbeddingModel

logger = logging.getLogger("bmad_mcp.memory")

# The vectors of another model mean something else, so the database keeps its name beside them.
MODEL = "wordllama l2_supercat 256"
PACKAGE = "wordllama"
# Loading keeps a processor busy, which the question that asked for it needs more.
LATER_SECONDS = 2.0
NEEDED = (PACKAGE, "numpy", "safetensors", "tokenizers")
INSTALL = "pip install 'bmad-mcp[vectors]'"
ON = "Vectors are on: memories are found by meaning too."
OFF = f"Vectors are off: {INSTALL} and BMAD_MEMORY_VECTORS=auto turn them on."


class Embedder:
    """The model of this process; a question never waits until it is loaded."""

    def __init__(self, folder: Path, *, later_seconds: float = LATER_SECONDS) -> None:
        self._folder = folder
        self._later_seconds = later_seconds
        self._model: EmbeddingModel | None = None
        self._loading: asyncio.Task[EmbeddingModel] | None = None

    async def model(self) -> "EmbeddingModel":
        """The model, however long that takes; raises Unavailable when its files cannot be read."""
        if self._model is None:
            try:
                self._model = await asyncio.to_thread(_load, self._folder)
            except Exception as error:
                # Whatever is wrong with packages that somebody else installed.
                raise Unavailable(
                    f"The extra `vectors` cannot be loaded ({type(error).__name__}). Install it again with {INSTALL},"
                    " or set BMAD_MEMORY_VECTORS=off."
                ) from error
        return self._model

    def model_at_hand(self) -> "EmbeddingModel | None":
        """The model when it is loaded; else it is loaded a moment later, once."""
        if self._model is None and self._loading is None:
            self._loading = asyncio.create_task(self._load_later())
            self._loading.add_done_callback(_note_failure)
        return self._model

    async def _load_later(self) -> "EmbeddingModel":
        await asyncio.sleep(self._later_seconds)
        return await self.model()


def in_a_sentence(embedder: Embedder | None) -> str:
    """Whether vectors are on, and what would turn them on."""
    return OFF if embedder is None else ON


def find_embedder() -> Embedder | None:
    """The embedder of this installation; None where the extra is missing. Imports nothing of it."""
    if any(find_spec(name) is None for name in NEEDED):
        return None
    spec = find_spec(PACKAGE)
    assert spec is not None
    assert spec.origin is not None
    return Embedder(Path(spec.origin).parent)


@cache
def _load(folder: Path) -> "EmbeddingModel":
    model: EmbeddingModel = import_module("bmad_mcp.memory.embedding_model").EmbeddingModel(folder)
    return model


def _note_failure(loading: "asyncio.Task[EmbeddingModel]") -> None:
    if not loading.cancelled() and (error := loading.exception()) is not None:
        logger.warning("Memories are searched without vectors. %s", error)
