"""Files that are whole or absent: atomic writes, digests, versioned JSON and TOML.

A reader gives a typed `msgspec.Struct` or an `ArtefactError` that names the file and the field.
"""

from __future__ import annotations

import codecs
import contextlib
import hashlib
import io
import os
import re
import stat
import tempfile
import tomllib
import typing
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any, Literal, TypeVar, overload

import msgspec

from artefacts.errors import ArtefactError, UsageError

StructT = TypeVar("StructT", bound=msgspec.Struct)

_KINDS = {
    stat.S_IFDIR: "a folder",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
    stat.S_IFSOCK: "a socket",
    stat.S_IFIFO: "a pipe",
}
"""What is no regular file, in words."""
_NAME_CHARACTERS = 40
"""Of the file's name, at most, in the temporary one: a longest name has no room for more."""
_TRIED_BYTES = 4096
"""Written to find out whether a disk has room at all."""
_TOML_CHARACTERS = 2**18
"""Of a file that a person writes."""
_KEY_PARTS = 32
_PART = r"(?:[A-Za-z0-9_-]++|\"(?:[^\"\\\n]|\\.)*+\"|'[^'\n]*+')[ \t]*+\.[ \t]*+"
_LONG_KEY = re.compile(rf"(?<![A-Za-z0-9_\\-])(?:{_PART}){{{_KEY_PARTS}}}")
"""That many parts of a dotted key, each followed by a dot."""
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
    with open_file(path) as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def read_bytes(path: str | Path, most_bytes: int | None = None) -> bytes:
    """A file's bytes; an `ArtefactError` where it cannot be read, or is no file and never ends.

    So it is where it holds more than `most_bytes`, of which one more is read at most.
    """
    with open_file(path) as stream:
        raw = stream.read() if most_bytes is None else stream.read(most_bytes + 1)
    if most_bytes is not None and len(raw) > most_bytes:
        most = f"{most_bytes // 1024**2} MiB"
        raise ArtefactError(path, found=f"a file of more than {most}", expected=f"at most {most}")
    return raw


@contextlib.contextmanager
def open_file(path: str | Path) -> Iterator[io.BufferedReader]:
    """A file to read from; what reading cannot do in the block is an `ArtefactError` too.

    What is no regular file is refused without waiting for it: `/dev/zero` has no end, and a pipe in
    the file system may have nobody who writes. A pipe that this process was given is read, as of
    `<(command)`.
    """
    with _readable(path):
        handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        with open(handle, "rb") as stream:
            kind = stat.S_IFMT(os.fstat(handle).st_mode)
            if kind == stat.S_IFIFO and _is_given(path):
                os.set_blocking(handle, True)
            elif kind in _KINDS:
                raise ArtefactError(path, found=_KINDS[kind], expected="a file")
            yield stream


def _is_given(path: str | Path) -> bool:
    """Whether a path names an open descriptor."""
    return os.path.realpath(path).startswith(("/proc/", "/dev/fd/"))


def read_text(path: str | Path) -> str:
    """A text file that a user made, decoded by `decode_text`."""
    return decode_text(path, read_bytes(path))


def decode_text(path: str | Path, raw: bytes) -> str:
    """UTF-8 with or without a byte order mark, lines that end as they may, each ending in LF.

    Editors of other systems write all of these. Other encodings are refused with the line where
    they show.
    """
    if raw.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        raise ArtefactError(path, found="UTF-16 (its byte order mark)", expected="UTF-8 text")
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        before = raw[: error.start].replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        raise ArtefactError(
            path, line=1 + before.count(b"\n"), found=f"byte 0x{raw[error.start]:02x}",
            expected="UTF-8 text",
        ) from None  # fmt: skip
    return text.replace("\r\n", "\n").replace("\r", "\n")


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
    flushed to disk before the rename). What the disk refuses, at opening or at any byte, becomes an
    `ArtefactError` whatever the block's library makes of it. The block only writes: an `OSError` in
    it that names no other file counts as this one's.
    """
    target = Path(path)
    with _writable(target):
        _check_target(target)
        target.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(
            dir=target.parent, prefix=f".{target.name[:_NAME_CHARACTERS]}.", suffix=".part"
        )
    disk = _Disk(handle)
    try:
        with _opened(disk, mode) as stream:
            yield stream
            stream.flush()
            # by the descriptor: in a folder that others may write, the name may be theirs by now
            os.fchmod(handle, _mode_of(target))
            os.fsync(handle)
        os.replace(temporary, target)
    except Exception as error:
        cause = disk.refusal or _own_refusal(error, temporary)
        if cause is None:
            raise
        raise _unwritable(target, cause) from None
    finally:
        # where it was renamed there is nothing to remove
        with contextlib.suppress(OSError):
            os.unlink(temporary)


class _Disk(io.FileIO):
    """A file that remembers the first write which the system refused.

    It shows no descriptor: whoever found one would write past it.
    """

    def __init__(self, handle: int) -> None:
        super().__init__(handle, "w")
        self.refusal: OSError | None = None

    def write(self, data: Any) -> int:
        """See `io.FileIO.write`."""
        try:
            return super().write(data)
        except OSError as error:
            self.refusal = self.refusal or error
            raise

    def fileno(self) -> int:
        """None that could be used."""
        raise io.UnsupportedOperation("fileno")


@contextlib.contextmanager
def _opened(disk: _Disk, mode: str) -> Iterator[IO[Any]]:
    """A buffered stream over a file; what is left in its buffer after a mistake is let go."""
    binary = io.BufferedWriter(disk)
    stream: Any = binary if "b" in mode else io.TextIOWrapper(binary, encoding="utf-8")
    try:
        yield stream
        stream.close()
    finally:
        disk.close()
        with contextlib.suppress(ValueError, OSError):  # its buffer has nowhere to go
            stream.close()


def _own_refusal(error: Exception, temporary: str) -> OSError | None:
    """The error where it is the disk's about this file; connections have nothing to do with it."""
    if not isinstance(error, OSError) or isinstance(error, ConnectionError | TimeoutError):
        return None
    return error if error.filename in (None, temporary) else None


def _mode_of(target: Path) -> int:
    """What the file that is replaced lets whom do; a new one is for everybody to read."""
    try:
        return stat.S_IMODE(target.stat().st_mode)
    except FileNotFoundError:
        return 0o644


def _check_target(target: Path) -> None:
    """Refuse to put a file in the place of a folder or a device (`/dev/null`, to root)."""
    try:
        kind = target.stat().st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISREG(kind):
        raise ArtefactError(
            target, found=_KINDS.get(stat.S_IFMT(kind), "no regular file"),
            expected="a file that can be written",
        )  # fmt: skip


@contextlib.contextmanager
def _writable(path: Path, expected: str = "a file that can be written") -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise _unwritable(path, error, expected) from None
    except ValueError as error:  # a NUL in a name
        raise ArtefactError(path, found=str(error), expected=expected) from None


def _unwritable(
    path: Path, error: OSError, expected: str = "a file that can be written"
) -> ArtefactError:
    return ArtefactError(path, found=(error.strerror or str(error)).lower(), expected=expected)


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


def ready_folder(folder: str | Path, *, make: bool = True) -> Path:
    """The folder, made where it is not there; refused where nothing can be written into it.

    For long work: who learns of it at the end has lost what was made. Without `make` it is only
    found out whether that could be.
    """
    folder = Path(folder)
    with _writable(folder, "a folder that can be written into"):
        if make:
            folder.mkdir(parents=True, exist_ok=True)
        _try_writing(folder)
    return folder


def ready_file(path: str | Path) -> Path:
    """The path, refused where no file can be written there (as `ready_folder`, nothing is made)."""
    path = Path(path)
    with _writable(path):
        _check_target(path)
        _try_writing(path.parent)
    return path


def _try_writing(folder: Path) -> None:
    """Write a little, without a name, into a folder or the first around it that is there."""
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    with tempfile.TemporaryFile(dir=folder) as stream:
        stream.write(bytes(_TRIED_BYTES))


def read_json(
    path: str | Path, kind: type[StructT], *, version: int | tuple[int, ...] | None = None
) -> StructT:
    """Read a JSON artefact as `kind`; with `version`, refuse any other `format_version`."""
    raw = read_bytes(path)
    try:
        plain = msgspec.json.decode(raw.removeprefix(codecs.BOM_UTF8))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ArtefactError(path, found=str(error), expected="valid JSON") from None
    return _typed(path, plain, kind, version)


def read_toml(path: str | Path, kind: type[StructT], *, version: int | None = None) -> StructT:
    """Read a TOML artefact as `kind`; with `version`, refuse another `format_version`."""
    text = read_text(path)
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
            raise ArtefactError(path, field="format_version", found=str(found), expected=expected)
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
    """Turn what the system says about reading a file into an `ArtefactError`."""
    try:
        kind = stat.S_IFMT(os.stat(path).st_mode)
        if kind in _KINDS and kind != stat.S_IFIFO:  # to open a device may do something
            raise ArtefactError(path, found=_KINDS[kind], expected="a file")
        yield
    except FileNotFoundError:
        raise ArtefactError(path, found="no such file", expected="a readable file") from None
    except PermissionError:
        raise ArtefactError(
            path, found="no permission to read", expected="a readable file"
        ) from None
    except OSError as error:
        found = (error.strerror or str(error)).lower()
        raise ArtefactError(path, found=found, expected="a readable file") from None
    except ValueError as error:  # a NUL in a name
        raise ArtefactError(path, found=str(error), expected="a readable file") from None


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
