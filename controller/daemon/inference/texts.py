"""Texts of a request as token ids, by the tokeniser that lies beside a model.

`vocab.txt` is a vocabulary of WordPiece (`models.data.wordpiece`), `tokenizer.json` is for the
package `tokenizers`, where that is installed. Without either a network is sent token ids.
"""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from artefacts import ArtefactError, UsageError, read_bytes
from models.data.wordpiece import WordPiece, read_wordpiece
from models.facts.preprocessing import TokenInput

VOCABULARY, TOKENIZER = "vocab.txt", "tokenizer.json"
TOKENIZER_BYTES = 2**26
WORK = 1000
"""What a byte of a text costs beside a byte that is only read."""


@dataclass(frozen=True, slots=True)
class Texts:
    """Texts of a request as they came, one a sample; each alone or with a second one."""

    texts: tuple[tuple[str, str | None], ...]

    def __len__(self) -> int:
        return len(self.texts)


class Tokeniser(Protocol):
    """Makes token ids of a text."""

    def encode(self, text: str, other: str | None = None, *, length: int) -> Sequence[int]:
        """Ids of a text, or of a pair of them: at most `length`, without padding."""


class _Tokenizers:
    """A tokeniser of the package `tokenizers`."""

    def __init__(self, made: Any) -> None:
        self._made = made
        made.no_padding()
        made.no_truncation()

    def encode(self, text: str, other: str | None = None, *, length: int) -> Sequence[int]:
        """See `Tokeniser.encode`; what is too long is refused."""
        ids: list[int] = self._made.encode(text, other).ids
        if len(ids) > length:
            raise UsageError(f"tokens: found a text of {len(ids)}, expected at most {length}")
        return ids


def tokeniser_beside(folder: Path, takes: TokenInput) -> Tokeniser | None:
    """What lies in a model's folder; None where nothing does, or its package is not installed.

    Raises `ArtefactError` for a file that is no tokeniser, or one of another vocabulary.
    """
    if (folder / VOCABULARY).is_file():
        found: WordPiece = read_wordpiece(folder / VOCABULARY)
        if len(found.ids) > takes.vocabulary or found.padding != takes.padding:
            raise ArtefactError(
                folder / VOCABULARY,
                found=f"{len(found.ids)} pieces, padding {found.padding}",
                expected=f"at most {takes.vocabulary}, padding {takes.padding}, as the card says",
            )
        return found
    if (folder / TOKENIZER).is_file() and importlib.util.find_spec("tokenizers") is not None:
        text = read_bytes(folder / TOKENIZER, TOKENIZER_BYTES, "a tokeniser").decode(
            "utf-8", "replace"
        )
        try:
            made: Any = importlib.import_module("tokenizers").Tokenizer.from_str(text)
        except Exception as error:  # the package's own, which has no class of its own
            raise ArtefactError(
                folder / TOKENIZER, found=str(error)[:100], expected="a tokeniser"
            ) from None
        return _Tokenizers(made)
    return None
