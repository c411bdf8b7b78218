"""JSON and TOML: versioned artefacts as typed `msgspec.Struct`s.

A reader gives the Struct or an `ArtefactError` that names the file and the field.
"""

from __future__ import annotations

import codecs
import re
import tomllib
import types
import typing
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from artefacts.errors import ArtefactError
from artefacts.files import read_bytes, read_text
from artefacts.writing import atomic_write

StructT = TypeVar("StructT", bound=msgspec.Struct)
JSON_BYTES = 64 * 2**20
"""Of a JSON artefact, where its reader does not say another bound."""
DEVICE_JSON_BYTES = 4 * 2**20
"""Of one that a device reads: its parts may take thirty times as much memory."""
_TOML_CHARACTERS = 2**18
"""Of a file that a person writes."""
_TOML_BYTES = 4 * _TOML_CHARACTERS
"""A character takes four bytes of UTF-8 at most."""
_KEY_PARTS = 32
_PART = r"(?:[A-Za-z0-9_-]++|\"(?:[^\"\\\n]|\\.)*+\"|'[^'\n]*+')[ \t]*+\.[ \t]*+"
_LONG_KEY = re.compile(rf"(?<![A-Za-z0-9_\\-])(?:{_PART}){{{_KEY_PARTS}}}")
"""That many parts of a dotted key, each followed by a dot."""
_KINDS = re.compile(r"Expected `(?P<wanted>[^`]*)`, got `(?P<got>[^`]*)`")
_UNKNOWN = re.compile(r"Object contains unknown field `(?P<name>.*)`")
_MISSING = re.compile(r"Object missing required field `(?P<name>.*)`")
_KIND_NAMES = {
    "str": "text", "int": "a whole number", "float": "a number", "bool": "true or false",
    "array": "a list", "object": "a table", "null": "nothing",
}  # fmt: skip
_FIELD = re.compile(r"^(?P<what>.*?)(?: - at `\$(?:\.)?(?P<field>[^`]*)`)?$", re.DOTALL)


def write_json(path: str | Path, value: Any) -> None:
    """Write `value` (a Struct or plain data) as indented JSON, atomically."""
    encoded = msgspec.json.format(encode_json(value), indent=1)
    with atomic_write(path, "wb") as stream:
        stream.write(encoded + b"\n")


def encode_json(value: Any, enc_hook: Callable[[Any], Any] | None = None) -> bytes:
    """`value` as JSON; the bytes of a file's name that are no UTF-8 become escapes, as in print."""
    try:
        return msgspec.json.encode(value, enc_hook=enc_hook)
    except UnicodeEncodeError:
        return msgspec.json.encode(_escaped(msgspec.to_builtins(value, enc_hook=enc_hook)))


def _escaped(plain: Any) -> Any:
    """Plain data, in every text of it escapes for what cannot be encoded."""
    if isinstance(plain, str):
        return plain.encode("utf-8", "backslashreplace").decode()
    if isinstance(plain, dict):
        return {_escaped(key): _escaped(one) for key, one in plain.items()}
    if isinstance(plain, list | tuple):
        return [_escaped(one) for one in plain]
    return plain


def read_json(
    path: str | Path,
    kind: type[StructT],
    *,
    version: int | tuple[int, ...] | None = None,
    most_bytes: int = JSON_BYTES,
    older: Callable[[dict[str, Any]], dict[str, Any]] | None = None,
) -> StructT:
    """Read a JSON artefact as `kind`; with `version`, refuse any other `format_version`.

    A file of more than `most_bytes` is refused before it is read. `older` makes fields of an older
    format those of today's.
    """
    raw = read_bytes(path, most_bytes)
    try:
        plain = msgspec.json.decode(raw.removeprefix(codecs.BOM_UTF8))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ArtefactError(path, found=str(error), expected="valid JSON") from None
    if older is not None and isinstance(plain, dict):
        plain = older(plain)
    return _typed(path, plain, kind, version)


def read_toml(path: str | Path, kind: type[StructT], *, version: int | None = None) -> StructT:
    """Read a TOML artefact as `kind`; with `version`, refuse another `format_version`."""
    text = read_text(path, _TOML_BYTES)
    _check_keys(path, text)
    try:
        plain = tomllib.loads(text)
    except (ValueError, RecursionError) as error:  # a number of too many digits is a ValueError
        raise ArtefactError(path, found=str(error), expected="valid TOML") from None
    return _typed(path, plain, kind, version)


def _check_keys(path: str | Path, text: str) -> None:
    """Refuse what takes a parser a time that grows with the square of a key's parts."""
    if len(text) > _TOML_CHARACTERS:
        raise ArtefactError(
            path, found=f"{len(text)} characters", expected=f"at most {_TOML_CHARACTERS}"
        )
    found = _LONG_KEY.search(text)
    if found is not None:
        raise ArtefactError(
            path, line=1 + text.count("\n", 0, found.start()),
            found=f"a key of more than {_KEY_PARTS} parts ({found[0][:40]!r})",
            expected=f"at most {_KEY_PARTS}",
        )  # fmt: skip


def _typed(
    path: str | Path, plain: Any, kind: type[StructT], version: int | tuple[int, ...] | None
) -> StructT:
    if not isinstance(plain, dict):
        raise ArtefactError(path, found=type(plain).__name__, expected="a table of fields")
    if version is not None:
        found = plain.get("format_version", "nothing")
        versions = version if isinstance(version, tuple) else (version,)
        if found not in versions:
            expected = " or ".join(map(str, versions))
            given = (
                f"the text '{found}'"
                if isinstance(found, str) and "format_version" in plain
                else str(found)
            )
            raise ArtefactError(path, field="format_version", found=given, expected=expected)
    try:
        return msgspec.convert(plain, kind)
    except msgspec.ValidationError as error:
        match = _FIELD.match(str(error))
        what, field = (match["what"], match["field"]) if match else (str(error), None)
        raise ArtefactError(
            path,
            field=field or None,
            found=_in_words(what),
            expected=_expected(kind, field or "", what),
        ) from None


def _in_words(what: str) -> str:
    """What msgspec found, as people who write such files call it."""
    if match := _KINDS.fullmatch(what):
        return _KIND_NAMES.get(match["got"], match["got"])
    if match := _UNKNOWN.fullmatch(what):
        return f"an unknown field '{match['name']}'"
    if match := _MISSING.fullmatch(what):
        return f"no field '{match['name']}'"
    return what


def _plain(hint: Any) -> Any:
    """A field's type without its bounds, and without that it may be null."""
    if typing.get_origin(hint) is typing.Annotated:
        return _plain(typing.get_args(hint)[0])
    some = [one for one in typing.get_args(hint) if one is not type(None)]
    if typing.get_origin(hint) in (typing.Union, types.UnionType) and len(some) == 1:
        return _plain(some[0])
    return hint


def _expected(kind: type[Any], field: str, what: str) -> str:
    """What a field may be: its values, or a table's keys, where its type says so."""
    found: Any = kind
    whole: Any = None
    for name in re.findall(r"[^.\[\]]+", re.sub(r"\[[^\]]*\]", "", field)):
        hints = typing.get_type_hints(found) if isinstance(found, type) else {}
        found = _plain(hints.get(name))
        whole = None
        if typing.get_origin(found) in (tuple, list):
            whole, found = found, _plain(typing.get_args(found)[0])
    if whole is not None and not field.endswith("]"):
        kinds = {str: "text", int: "whole numbers", float: "numbers"}
        return f"a list of {kinds[found]}" if found in kinds else "a list"
    if typing.get_origin(found) is typing.Literal:
        return " or ".join(repr(value) for value in typing.get_args(found))
    if isinstance(found, type) and issubclass(found, msgspec.Struct) and "unknown field" in what:
        return f"one of {', '.join(found.__struct_fields__)}"
    if found in (int, float, str, bool):
        names = {int: "a whole number", float: "a number", str: "text", bool: "true or false"}
        return names[found]
    return f"a valid {kind.__name__}"
