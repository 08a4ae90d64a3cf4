"""The word embeddings of the extra `vectors`, read from wordllama's own files: nothing here can reach a network."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file
from tokenizers import Tokenizer

WEIGHTS = "weights/l2_supercat_256.safetensors"
TOKENIZER = "tokenizers/l2_supercat_tokenizer_config.json"
# A mean of few texts says little: it counts as if so many more had none.
FEW = 20

Vectors = NDArray[np.float32]


class EmbeddingModel:
    """Turns texts into vectors of length 1, and vectors into what the database keeps of them."""

    def __init__(self, folder: Path) -> None:
        """`folder` is where the package wordllama is; reading takes a fifth of a second."""
        self._weights = load_file(folder / WEIGHTS)["embedding.weight"]
        self._tokenizer = Tokenizer.from_file(str(folder / TOKENIZER))
        self._tokenizer.no_padding()
        self._tokenizer.no_truncation()

    def embed(self, texts: Sequence[str]) -> Vectors:
        """A vector for each text, the mean of its tokens'; zeros for a text without any."""
        found = np.zeros((len(texts), self._weights.shape[1]), np.float32)
        for at, encoded in enumerate(self._tokenizer.encode_batch(list(texts), add_special_tokens=False)):
            if encoded.ids:
                found[at] = self._weights[encoded.ids].mean(axis=0, dtype=np.float32)
        return _of_length_one(found)

    def centre_of(self, texts: Sequence[str]) -> list[float]:
        """What the vectors of these texts have in common."""
        vectors = self.embed(texts)
        mean: list[float] = (vectors.sum(axis=0) / (len(vectors) + FEW)).tolist()
        return mean

    def coded(self, texts: Sequence[str], centre: Sequence[float]) -> tuple[list[str], list[bytes]]:
        """What sets each text apart from the centre: the signs as bits, and the values as bytes."""
        apart = self.embed(texts) - np.asarray(centre, np.float32)
        steps = np.rint(apart * (127 / np.abs(apart).max(axis=1, keepdims=True))).astype(np.int8)
        return ["".join(row) for row in np.where(apart > 0, "1", "0")], [row.tobytes() for row in steps]

    def closeness(self, question: Vectors, centre: Sequence[float], codes: bytes) -> list[float]:
        """The cosines of a question's vector and the coded ones, which stand one after the other."""
        (asked,) = _of_length_one(question - np.asarray(centre, np.float32))
        kept = np.frombuffer(codes, np.int8).reshape(-1, len(asked)).astype(np.float32)
        cosines: list[float] = (_of_length_one(kept) @ asked).tolist()
        return cosines


def _of_length_one(vectors: Vectors) -> Vectors:
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    found: Vectors = vectors / np.maximum(lengths, np.float32(1e-9))
    return found
