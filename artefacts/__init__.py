"""How everything coinfer keeps on disk is written, read back and refused.

Owns the one error tree, atomic writes, digests and the reading of versioned JSON and TOML.
Every other room may import it; it imports none of them and knows no domain word.
"""

from artefacts.documents import DEVICE_JSON_BYTES, encode_json, read_json, read_toml, write_json
from artefacts.errors import (
    ArtefactError,
    CoinferError,
    DependencyError,
    UsageError,
    installing,
    without_package,
)
from artefacts.files import (
    check_name,
    data_directory,
    decode_text,
    digest_bytes,
    digest_file,
    open_file,
    read_bytes,
    read_text,
)
from artefacts.printing import printable, shortened
from artefacts.processors import usable_cpus
from artefacts.writing import atomic_write, ready_file, ready_folder

__all__ = [
    "DEVICE_JSON_BYTES",
    "ArtefactError",
    "CoinferError",
    "DependencyError",
    "UsageError",
    "atomic_write",
    "check_name",
    "data_directory",
    "decode_text",
    "digest_bytes",
    "digest_file",
    "encode_json",
    "installing",
    "open_file",
    "printable",
    "read_bytes",
    "read_json",
    "read_text",
    "read_toml",
    "ready_file",
    "ready_folder",
    "shortened",
    "usable_cpus",
    "without_package",
    "write_json",
]
