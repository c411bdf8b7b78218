"""Where the public trace sets come from, and whether files at hand are the published ones.

The digests are of the single files (computed from copies of the published sets), not of the
archives they come in: an archive may be packed anew without a byte of a trace changing.
"""

from __future__ import annotations

import io
import json
import urllib.error
import urllib.request
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from artefacts import CoinferError, UsageError, atomic_write, digest_bytes, digest_file
from traces.library import FOLDERS, SPLITS

MAX_ARCHIVE_BYTES = 512 * 1024 * 1024
TIMEOUT_S = 30.0


@dataclass(frozen=True, slots=True)
class Origin:
    """A set's page, an archive to download where one address is known, and its citation."""

    page: str
    archive: str | None
    cite: str


ORIGINS: dict[str, Origin] = {
    "belgium": Origin(
        "https://users.ugent.be/~jvdrhoof/dataset-4g/",
        "https://users.ugent.be/~jvdrhoof/dataset-4g/logs/logs_all.zip",
        "van der Hooft et al., IEEE Communications Letters 20(11), 2016",
    ),
    "norway": Origin(
        "http://skulddata.cs.umass.edu/traces/mmsys/2013/pathbandwidth/",
        None,
        "Riiser et al., MMSys 2013",
    ),
    "oboe": Origin("https://github.com/USC-NSL/Oboe", None, "Akhtar et al., SIGCOMM 2018"),
    "mahimahi": Origin(
        "https://github.com/ravinet/mahimahi/tree/master/traces",
        None,
        "Winstein et al. (Sprout), NSDI 2013",
    ),
}


class FetchError(CoinferError):
    """A set could not be downloaded; the message says how to get it by hand."""


@dataclass(frozen=True, slots=True)
class Verification:
    """Files of a family against their digests."""

    good: int
    missing: tuple[str, ...]
    wrong: tuple[str, ...]


def known_digests(family: str) -> dict[str, str]:
    """File name -> SHA-256 of a family's files."""
    if family not in FOLDERS:
        raise UsageError(f"fetch: found family '{family}', expected one of {', '.join(FOLDERS)}")
    table: dict[str, str] = json.loads((SPLITS / "digests.json").read_text())
    prefix = FOLDERS[family] + "/"
    return {k.removeprefix(prefix): v for k, v in table.items() if k.startswith(prefix)}


def verify_family(family: str, data: Path) -> Verification:
    """Compare the files in `data`/traces/FAMILY with their digests."""
    folder = data / "traces" / FOLDERS.get(family, family)
    good, missing, wrong = 0, [], []
    for name, digest in known_digests(family).items():
        if not (folder / name).exists():
            missing.append(name)
        elif digest_file(folder / name) == digest:
            good += 1
        else:
            wrong.append(name)
    return Verification(good, tuple(missing), tuple(wrong))


def fetch_family(family: str, data: Path, say: Callable[[str], None]) -> None:
    """Download a set's archive and unpack the files whose digests are known."""
    digests = known_digests(family)
    origin = ORIGINS[family]
    by_hand = (
        f"get it by hand from {origin.page} ({origin.cite}), put the files into "
        f"{data / 'traces' / FOLDERS[family]} and set COINFER_DATA={data}"
    )
    if origin.archive is None:
        raise FetchError(f"{family}: no single archive is published; {by_hand}")
    say(f"fetching {origin.archive}")
    try:
        with urllib.request.urlopen(origin.archive, timeout=TIMEOUT_S) as answer:
            raw = answer.read(MAX_ARCHIVE_BYTES + 1)
    except (urllib.error.URLError, OSError) as error:
        raise FetchError(f"{family}: {origin.archive}: {error}; {by_hand}") from None
    if len(raw) > MAX_ARCHIVE_BYTES:
        raise FetchError(f"{family}: the archive is larger than expected; {by_hand}")
    say(f"{family}: {unpack(raw, digests, data / 'traces' / FOLDERS[family])} files written")


def unpack(raw: bytes, digests: dict[str, str], folder: Path) -> int:
    """Write the archive's files whose digests are known; refuses any other bytes."""
    written = 0
    try:
        archive = zipfile.ZipFile(io.BytesIO(raw))
    except zipfile.BadZipFile:
        raise FetchError(f"archive: found {len(raw)} bytes that are no zip file") from None
    for member in archive.infolist():
        name = Path(member.filename).name
        if name not in digests:
            continue
        content = archive.read(member)
        if digest_bytes(content) != digests[name]:
            raise FetchError(
                f"{name}: found digest {digest_bytes(content)[:12]}…, expected "
                f"{digests[name][:12]}…"
            )
        with atomic_write(folder / name, "wb") as stream:
            stream.write(content)
        written += 1
    return written
