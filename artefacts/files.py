"""Files that are whole or absent: atomic writes, digests, versioned JSON and TOML.

A reader gives a typed `msgspec.Struct` or an `ArtefactError` that names the file and the field.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import re
import tempfile
import tomllib
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, Literal, TypeVar, overload

import msgspec

from artefacts.errors import ArtefactError, UsageError

StructT = TypeVar("StructT", bound=msgspec.Struct)

_FIELD = re.compile(r"^(?P<what>.*?)(?: - at `\$(?:\.)?(?P<field>[^`]*)`)?$", re.DOTALL)


def data_directory() -> Path | None:
    """The folder of real data: `COINFER_DATA`, or `../shared/data` beside the checkout; or None.

    Refuses a `COINFER_DATA` that is no folder: whoever names one does not mean stand-ins.
    """
    named = os.environ.get("COINFER_DATA")
    if named:
        if not Path(named).is_dir():
            raise UsageError(f"COINFER_DATA: found '{named}', expected a folder that exists")
        return Path(named)
    beside = Path(__file__).resolve().parent.parent.parent / "shared" / "data"
    return beside if beside.is_dir() else None


def check_name(path: str | Path, field: str, name: str) -> None:
    """Refuse a name, found in a file, that could not be a file's or folder's own."""
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", name):
        raise ArtefactError(
            path, field=field, found=f"'{name}'",
            expected="letters, digits, '.', '_' and '-' (it names a file)",
        )  # fmt: skip


def digest_bytes(data: bytes) -> str:
    """SHA-256 of `data` as lower-case hex."""
    return hashlib.sha256(data).hexdigest()


def digest_file(path: str | Path) -> str:
    """SHA-256 of a file's bytes as lower-case hex."""
    with _readable(path), open(path, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


@overload
def atomic_write(
    path: str | Path, mode: Literal["w"] = "w"
) -> contextlib.AbstractContextManager[IO[str]]: ...
@overload
def atomic_write(
    path: str | Path, mode: Literal["wb"]
) -> contextlib.AbstractContextManager[IO[bytes]]: ...
@contextlib.contextmanager
def atomic_write(path: str | Path, mode: str = "w") -> Iterator[IO[Any]]:
    """Open a temporary neighbour of `path`; rename it into place only if the block ends well.

    A reader therefore sees the old file or the new one, also across a power cut (the data are
    flushed to disk before the rename).
    """
    target = Path(path)
    encoding = None if "b" in mode else "utf-8"
    try:
        if target.is_dir():
            raise IsADirectoryError(errno.EISDIR, "a folder")
        target.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(
            dir=target.parent, prefix=f".{target.name}.", suffix=".part"
        )
    except OSError as error:
        raise ArtefactError(
            target, found=str(error.strerror).lower(), expected="a file that can be written"
        ) from None
    try:
        with open(handle, mode, encoding=encoding) as stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        os.chmod(temporary, 0o644)
        os.replace(temporary, target)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)
        raise


def write_json(path: str | Path, value: Any) -> None:
    """Write `value` (a Struct or plain data) as indented JSON, atomically."""
    encoded = msgspec.json.format(msgspec.json.encode(value), indent=1)
    with atomic_write(path, "wb") as stream:
        stream.write(encoded + b"\n")


def ready_folder(folder: str | Path) -> Path:
    """The folder, made where it is not there; refused where nothing can be written into it.

    For long work: who learns of it at the end has lost what was made.
    """
    folder = Path(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise ArtefactError(
            folder, found=str(error.strerror).lower(), expected="a folder that can be written into"
        ) from None
    return folder


def read_json(path: str | Path, kind: type[StructT], *, version: int | None = None) -> StructT:
    """Read a JSON artefact as `kind`; with `version`, refuse another `format_version`."""
    with _readable(path):
        raw = Path(path).read_bytes()
    try:
        plain = msgspec.json.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ArtefactError(path, found=str(error), expected="valid JSON") from None
    return _typed(path, plain, kind, version)


def read_toml(path: str | Path, kind: type[StructT], *, version: int | None = None) -> StructT:
    """Read a TOML artefact as `kind`; with `version`, refuse another `format_version`."""
    with _readable(path):
        raw = Path(path).read_bytes()
    try:
        plain = tomllib.loads(raw.decode("utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ArtefactError(path, found=str(error), expected="valid TOML") from None
    return _typed(path, plain, kind, version)


def _typed(path: str | Path, plain: Any, kind: type[StructT], version: int | None) -> StructT:
    if not isinstance(plain, dict):
        raise ArtefactError(path, found=type(plain).__name__, expected="a table of fields")
    if version is not None:
        found = plain.get("format_version", "nothing")
        if found != version:
            raise ArtefactError(
                path, field="format_version", found=str(found), expected=str(version)
            )
    try:
        return msgspec.convert(plain, kind)
    except msgspec.ValidationError as error:
        match = _FIELD.match(str(error))
        what, field = (match["what"], match["field"]) if match else (str(error), None)
        raise ArtefactError(
            path, field=field or None, found=what, expected=_expected(kind, field or "", what)
        ) from None


@contextlib.contextmanager
def _readable(path: str | Path) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError:
        raise ArtefactError(path, found="no such file", expected="a readable file") from None
    except IsADirectoryError:
        raise ArtefactError(path, found="a folder", expected="a file") from None
    except PermissionError:
        raise ArtefactError(
            path, found="no permission to read", expected="a readable file"
        ) from None


def _expected(kind: type[Any], field: str, what: str) -> str:
    """What a field may be: its values, or a table's keys, where its type says so."""
    found: Any = kind
    for name in re.findall(r"[^.\[\]]+", re.sub(r"\[[^\]]*\]", "", field)):
        hints = typing.get_type_hints(found) if isinstance(found, type) else {}
        found = hints.get(name)
        if typing.get_origin(found) in (tuple, list):
            found = typing.get_args(found)[0]
    if typing.get_origin(found) is typing.Literal:
        return " or ".join(repr(value) for value in typing.get_args(found))
    if isinstance(found, type) and issubclass(found, msgspec.Struct) and "unknown field" in what:
        return f"one of {', '.join(found.__struct_fields__)}"
    if found in (int, float, str, bool):
        names = {int: "a whole number", float: "a number", str: "text", bool: "true or false"}
        return names[found]
    return f"a valid {kind.__name__}"
