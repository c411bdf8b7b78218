"""Text from outside as people may see it: nothing that a terminal obeys, and no megabytes.

Names of files, columns, hosts and models, and what other programs say, come from anywhere.
"""

from __future__ import annotations

from collections.abc import Sequence

MOST_CHARACTERS = 1000
"""Of one line of an error."""


def printable(text: str, keep: str = "") -> str:
    """`text` with escapes for what does not print: line ends, controls, bytes that are no UTF-8.

    Characters of `keep` stay as they are.
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c in keep else _escape(c) for c in text)


def shortened(text: str, most: int = MOST_CHARACTERS) -> str:
    """`text` of at most `most` characters: its begin and its end, and how much is left out."""
    if len(text) <= most:
        return text
    head, tail = (2 * most) // 3, most // 6
    return f"{text[:head]} [... {len(text) - head - tail:,} characters ...] {text[-tail:]}"


def number_of(number: int, what: str) -> str:
    """`number` with what is counted, its plural by an s."""
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


def first_of(names: Sequence[str], most: int) -> str:
    """Names by commas, of more than `most` the first of them and an ellipsis."""
    return ", ".join([*names[:most], *(["…"] if len(names) > most else [])])


def _escape(character: str) -> str:
    return character.encode("unicode_escape", "surrogatepass").decode("ascii")


def apart(found: str, expected: str, around: int = 24) -> tuple[str, str]:
    """Two long texts from `around` characters before they differ, and twice as many beyond."""
    differing = (k for k, (a, b) in enumerate(zip(found, expected, strict=False)) if a != b)
    same = next(differing, min(len(found), len(expected)))
    begin = max(same - around, 0)
    cut = ["…" * (begin > 0) + text[begin : same + 2 * around] for text in (found, expected)]
    return cut[0], cut[1]
