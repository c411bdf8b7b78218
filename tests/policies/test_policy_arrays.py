"""Arrays of policies: what is written is read, and nothing else is."""

import zipfile

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from artefacts import ArtefactError
from controller.policies.arrays import packed, read_arrays


def npy(header, body=b""):
    header = header.ljust(117) + b"\n"
    return b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + body


HOSTILE = {
    "objects": npy(b"{'descr': '|O', 'fortran_order': False, 'shape': (1,), }", b"x" * 8),
    "nothing, a lot of it": npy(
        b"{'descr': '|V0', 'fortran_order': False, 'shape': (100000000000,), }"
    ),
    "no type": npy(b"{'descr': (), 'fortran_order': False, 'shape': (1,), }", b"x" * 4),
    "huge": npy(b"{'descr': '<f4', 'fortran_order': False, 'shape': (9" + b"9" * 40 + b",), }"),
    "more than there is": npy(b"{'descr': '<f4', 'fortran_order': False, 'shape': (3,), }", b"x"),
    "no literal": npy(b"{[]: 1}"),
    "indented": npy(b"  {'descr': '<f4'\n  'shape"),
    "half a token": npy(b"{'descr': '<f4', 'shape': ((("),
    "no array": b"PK",
    "nothing": b"",
}


@pytest.mark.parametrize("name", HOSTILE)
@pytest.mark.parametrize("kind", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_arrays_are_read_by_headers_of_ours_alone(tmp_path, name, kind):
    path = tmp_path / "policy.npz"
    with zipfile.ZipFile(path, "w", kind) as archive:
        archive.writestr("a.npy", HOSTILE[name])
    with pytest.raises(ArtefactError, match=r"policy.npz, field 'a.npy': found .*expected"):
        read_arrays(path)


@pytest.mark.parametrize("kind", [zipfile.ZIP_LZMA, zipfile.ZIP_BZIP2])
def test_arrays_are_deflated_or_refused(tmp_path, kind):
    path = tmp_path / "policy.npz"
    with zipfile.ZipFile(path, "w", kind) as archive:
        archive.writestr("a.npy", b"x")
    with pytest.raises(ArtefactError, match="field 'a.npy': found compression"):
        read_arrays(path)


@given(
    arrays(
        st.sampled_from([np.float16, np.float32, np.float64, np.int64]),
        array_shapes(min_dims=1, max_dims=6, min_side=0, max_side=4),
    )
)
def test_what_is_packed_is_read_as_it_was(tmp_path_factory, array):
    path = tmp_path_factory.mktemp("packed") / "a.npz"
    path.write_bytes(packed({"one": array, "two": array[None]}))
    found = read_arrays(path)
    for name, wanted in (("one", array), ("two", array[None])):
        assert found[name].dtype == wanted.dtype
        assert found[name].shape == wanted.shape
        assert found[name].tobytes() == np.ascontiguousarray(wanted).tobytes()
        assert found[name].flags.writeable
