"""Archives of arrays: what they hold comes back, and what would fill the memory is refused."""

import ast
import io
import resource
import tracemalloc
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from artefacts import ArtefactError
from artefacts.arrays import FREE_BYTES, MOST_MEMBERS, MOST_RATIO, read_npz, unpack_npz

ROOT = Path(__file__).parents[2]


def header(text):
    text = text.encode().ljust(118) + b"\n"
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text


def archive(path, **members):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as made:
        for name, data in members.items():
            made.writestr(f"{name}.npy", data)
    return path


@given(
    st.dictionaries(
        st.sampled_from("abc"),
        hnp.arrays(
            hnp.scalar_dtypes().filter(lambda d: d.kind in "biufU"), hnp.array_shapes(min_dims=0)
        ),
    ),
    st.booleans(),
)
def test_arrays_come_back_as_they_were(arrays, packed):
    stream = io.BytesIO()
    (np.savez_compressed if packed else np.savez)(stream, **arrays)
    found = unpack_npz("x", stream, "arrays")
    assert set(found) == set(arrays)
    for name, array in arrays.items():
        assert found[name].dtype == array.dtype
        np.testing.assert_array_equal(found[name], array)


def test_order_is_kept_and_only_what_is_asked_for_is_read(tmp_path):
    np.savez(tmp_path / "a.npz", x=np.asfortranarray(np.arange(6).reshape(2, 3)), y=np.ones(2))
    found = read_npz(tmp_path / "a.npz", "arrays", ("x", "z"))
    assert list(found) == ["x"]
    assert found["x"].tolist() == [[0, 1, 2], [3, 4, 5]]
    found["x"][0, 0] = 7  # it may be written


def test_what_unpacks_to_more_than_the_memory_is_refused_before(tmp_path):
    """A few hundred kilobytes of zeros that are 512 MB, and shapes that nothing fills."""
    bomb = tmp_path / "bomb.npz"
    with (
        zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as made,
        made.open("x.npy", "w") as member,
    ):
        member.write(header(f"{{'descr': '|u1', 'fortran_order': False, 'shape': ({2**29},), }}"))
        for _ in range(2**29 // 2**22):
            member.write(bytes(2**22))
    assert MOST_RATIO * bomb.stat().st_size < 2**29
    claim = "{'descr': '<f8', 'fortran_order': False, 'shape': (1000000000, 1000), }"
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for path, found in (
        (bomb, f"arrays of {2**29 + 129:,} bytes in a file of {bomb.stat().st_size:,}"),
        (archive(tmp_path / "claim.npz", x=header(claim) + b"x"), "1 bytes as float64"),
        (archive(tmp_path / "many.npz", **{f"a{k}": b"" for k in range(MOST_MEMBERS + 1)}),
         f"{MOST_MEMBERS + 1} arrays"),
    ):  # fmt: skip
        with pytest.raises(ArtefactError) as error:
            read_npz(path, "arrays")
        assert f"found {found}" in str(error.value)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < FREE_BYTES // 1024


def test_a_member_that_is_more_than_its_directory_says_is_not_unpacked(tmp_path):
    lying = tmp_path / "lying.npz"
    with zipfile.ZipFile(lying, "w", zipfile.ZIP_DEFLATED) as made:
        with made.open("x.npy", "w") as member:
            for _ in range(32):
                member.write(bytes(2**22))
        made.infolist()[0].file_size = 1000
    tracemalloc.start()
    try:
        with pytest.raises(ArtefactError, match="expected arrays"):
            read_npz(lying, "arrays")
        assert tracemalloc.get_traced_memory()[1] < 2**22
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    "descr",
    ["'|O'", "'<M8[s]'", "[('a', '<f8')]", "'nonsense'", "'|V8'", "__import__('os')", "('<f8',"],
)
def test_objects_and_what_is_no_plain_array_are_refused(tmp_path, descr):
    text = f"{{'descr': {descr}, 'fortran_order': False, 'shape': (1,), }}"
    path = archive(tmp_path / "a.npz", x=header(text) + bytes(8))
    with pytest.raises(ArtefactError):
        read_npz(path, "arrays")


@given(st.data())
def test_damage_is_one_line(data):
    stream = io.BytesIO()
    np.savez_compressed(stream, x=np.arange(100), y=np.ones((3, 4), np.float32))
    raw = bytearray(stream.getvalue())
    for place in data.draw(st.lists(st.integers(0, len(raw) - 1), min_size=1, max_size=4)):
        raw[place] = data.draw(st.integers(0, 255))
    try:
        unpack_npz("x", io.BytesIO(raw[: data.draw(st.integers(0, len(raw)))]), "arrays")
    except ArtefactError as error:
        assert str(error).startswith("x")


def test_a_word_for_arrays_means_one_thing():
    """`Floats` and its like are assigned here alone, and taken from here alone."""
    words, odd = ("Floats", "Float32s", "Ints", "Bools"), []
    for room in ("artefacts", "traces", "models", "controller", "envs", "experiments", "coinfer"):
        for file in (ROOT / room).rglob("*.py"):
            for node in ast.walk(ast.parse(file.read_text())):
                if isinstance(node, ast.ImportFrom) and node.module != "artefacts.arrays":
                    named = {a.asname or a.name for a in node.names}
                elif isinstance(node, ast.Assign) and file != ROOT / "artefacts/arrays.py":
                    named = {t.id for t in node.targets if isinstance(t, ast.Name)}
                else:
                    continue
                odd += [f"{file}:{node.lineno}: {word}" for word in named & set(words)]
    assert odd == []
