"""WordPiece: text to token ids as BERT's lower-case vocabularies want them (Devlin et al. 2019).

Pure Python: a device that is asked in words needs no further package. The ids are those of the
published tokenisers (a test holds them against one).
"""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from artefacts import ArtefactError, UsageError, read_text

MOST_CHARACTERS = 100
"""Of a word; a longer one is unknown."""
VOCABULARY_BYTES = 2**23
CHINESE = (
    (0x4E00, 0x9FFF), (0x3400, 0x4DBF), (0x20000, 0x2A6DF), (0x2A700, 0x2B73F),
    (0x2B740, 0x2B81F), (0x2B820, 0x2CEAF), (0xF900, 0xFAFF), (0x2F800, 0x2FA1F),
)  # fmt: skip
"""Code points of which each is a word of its own."""


@dataclass(frozen=True, slots=True)
class WordPiece:
    """A vocabulary, and how a text is cut into its pieces."""

    ids: Mapping[str, int]
    """Of every piece; those within a word begin with `##`."""
    padding: int
    """What fills a row behind its tokens."""
    unknown: int
    first: int
    """Before the first token."""
    separator: int
    """After every sentence."""

    def encode(self, text: str, other: str | None = None, *, length: int) -> list[int]:
        """Token ids of a sentence, or of a pair: `length` at most, without padding.

        What is too long loses its end; of a pair, the longer one loses it first.
        """
        least = 2 if other is None else 3
        if length < least:
            raise UsageError(f"length: found {length} tokens, expected {least} or more")
        tokens = self._tokens(text)
        if other is None:
            return [self.first, *tokens[: length - 2], self.separator]
        more, room = self._tokens(other), length - 3
        if len(tokens) + len(more) > room:
            half, rest = room // 2, room - room // 2
            if len(tokens) <= half:
                more = more[: room - len(tokens)]
            elif len(more) <= half:
                tokens = tokens[: room - len(more)]
            else:  # the odd token goes to the longer one, to the second where both are as long
                first = rest if len(tokens) > len(more) else half
                tokens, more = tokens[:first], more[: room - first]
        return [self.first, *tokens, self.separator, *more, self.separator]

    def _tokens(self, text: str) -> list[int]:
        return [piece for word in _words(text) for piece in self._pieces(word)]

    def _pieces(self, word: str) -> list[int]:
        """The longest piece that the word begins with, then of what is left, and so on."""
        if len(word) > MOST_CHARACTERS:
            return [self.unknown]
        found: list[int] = []
        begin = 0
        while begin < len(word):
            within = "##" if begin else ""
            for end in range(len(word), begin, -1):
                piece = self.ids.get(within + word[begin:end])
                if piece is not None:
                    break
            else:
                return [self.unknown]
            found.append(piece)
            begin = end
        return found


def read_wordpiece(path: Path) -> WordPiece:
    """A vocabulary file (`vocab.txt`): one piece a line, its id is the line's number from 0."""
    pieces = read_text(path, VOCABULARY_BYTES).split("\n")
    if pieces and not pieces[-1]:
        pieces.pop()
    ids = {piece.rstrip("\r"): number for number, piece in enumerate(pieces)}
    for special in ("[PAD]", "[UNK]", "[CLS]", "[SEP]"):
        if special not in ids:
            raise ArtefactError(path, field=special, found="nothing", expected="a line of its own")
    return WordPiece(ids, ids["[PAD]"], ids["[UNK]"], ids["[CLS]"], ids["[SEP]"])


def _words(text: str) -> list[str]:
    """Lower-case words without accents; every sign is a word of its own."""
    spaced = []
    for sign in text:
        if sign in "\t\n\r" or unicodedata.category(sign) == "Zs":
            spaced.append(" ")
        elif sign in "\0�" or unicodedata.category(sign).startswith("C"):
            continue
        elif any(low <= ord(sign) <= high for low, high in CHINESE):
            spaced += [" ", sign, " "]
        else:
            spaced.append(sign)
    plain = unicodedata.normalize("NFD", "".join(spaced))
    # sign by sign: what a letter becomes does not depend on where it stands in its word
    plain = "".join(sign.lower() for sign in plain if unicodedata.category(sign) != "Mn")
    words: list[str] = []
    for whole in plain.split():
        begun = False
        for sign in whole:
            if _is_sign(sign):
                words.append(sign)
                begun = False
            elif begun:
                words[-1] += sign
            else:
                words.append(sign)
                begun = True
    return words


def _is_sign(sign: str) -> bool:
    """Whether a character is punctuation, or of ASCII no letter and no digit."""
    code = ord(sign)
    if code < 128:
        return not sign.isalnum() and code > 32
    return unicodedata.category(sign).startswith("P")
