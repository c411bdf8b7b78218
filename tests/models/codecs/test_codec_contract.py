"""What every registered codec keeps to: a codec that is added is held against this as it stands."""

import ast
import contextlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from artefacts import UsageError
from controller.edge.served import ENCODED_EXTRA_BYTES
from models.codecs import Codec, Shared, codec_named, example_names, find_codec, known_codecs
from models.codecs.examples import PICTURE, example_array, example_shared
from models.codecs.registry import FAMILIES

EVERY = pytest.mark.parametrize("name", example_names())
ROOT = Path(__file__).parents[3]
CODECS = ROOT / "models/codecs"

tensors = hnp.arrays(
    np.float32, hnp.array_shapes(min_dims=2, max_dims=4, max_side=5),
    elements=st.floats(-1e4, 1e4, width=32, allow_subnormal=False),
)  # fmt: skip
pictures = hnp.arrays(
    np.uint8,
    st.tuples(st.integers(1, 12), st.integers(1, 12), st.just(3)),
)

CARRIED = {
    "picture": pictures,
    "tokens": hnp.arrays(np.int32, st.integers(1, 40), elements=st.integers(0, 2**16 - 1)),
    "sound": hnp.arrays(np.int16, st.integers(1, 40)),
}
"""What codecs carry that carry no tensors."""


def case(codec: Codec, data: st.DataObject):
    """An array that the codec carries, and what both ends hold for it."""
    array = data.draw(CARRIED.get(codec.carries, tensors))
    return array, example_shared(codec, array[None])


def unlike(array):
    """Another one of the same shape that the same codec carries."""
    half = array[::-1] * 0.5 if array.dtype.kind == "f" else array[::-1] // 2
    return half.astype(array.dtype)


@EVERY
@settings(max_examples=40)
@given(data=st.data())
def test_what_was_encoded_is_decoded_to_its_shape_and_kind(name, data):
    codec = codec_named(name)
    array, shared = case(codec, data)
    encoded = codec.encode(array, shared)
    back = codec.decode(encoded.meta, encoded.data, array.shape, shared)
    assert (back.shape, back.dtype) == (array.shape, array.dtype)
    assert np.isfinite(back).all()
    if codec.exact:
        assert np.array_equal(back, array)


@EVERY
@settings(max_examples=40)
@given(data=st.data())
def test_the_size_is_what_was_said_and_what_an_edge_takes(name, data):
    codec = codec_named(name)
    array, shared = case(codec, data)
    sent, said = len(codec.encode(array, shared).data), codec.size(array.shape)
    assert said in (None, sent)
    assert sent <= 4 * array.size + ENCODED_EXTRA_BYTES


@EVERY
@settings(max_examples=25)
@given(data=st.data())
def test_a_batch_is_seen_as_on_the_wire_sample_by_sample(name, data):
    codec = codec_named(name)
    one, _ = case(codec, data)
    batch = np.stack([one, unlike(one)])
    shared = example_shared(codec, batch)
    for sample, seen in zip(batch, codec.round_trip(batch, shared), strict=True):
        encoded = codec.encode(sample, shared)
        there = codec.decode(encoded.meta, encoded.data, sample.shape, shared)
        assert np.array_equal(there, seen)


@EVERY
def test_encoding_does_not_touch_what_it_is_given_and_gives_the_same_again(name):
    codec = codec_named(name)
    array = example_array(codec, np.random.default_rng(4))
    shared, before = example_shared(codec, array[None]), array.copy()
    array.flags.writeable = False
    first, second = codec.encode(array, shared), codec.encode(array, shared)
    assert (first.data, first.meta) == (second.data, second.meta)
    assert isinstance(first.data, bytes)
    assert np.array_equal(array, before)


@EVERY
@settings(max_examples=120)
@given(data=st.data())
def test_bytes_from_outside_are_decoded_to_the_shape_or_refused(name, data):
    """Bytes from nowhere, and what the codec made with some of it changed, cut off or added."""
    codec = codec_named(name)
    array = example_array(codec, np.random.default_rng(data.draw(st.integers(0, 3))))
    shared = example_shared(codec, array[None])
    made = codec.encode(array, shared)
    sent = data.draw(st.binary(max_size=200) | changed(made.data))
    odd = st.dictionaries(st.sampled_from(["low", "scale", "x"]), st.none() | st.text(max_size=3)
                          | st.floats() | st.integers() | st.booleans(), max_size=3)  # fmt: skip
    meta = data.draw(st.just(made.meta) | odd)
    kind = data.draw(st.sampled_from([bytes, memoryview]))
    with contextlib.suppress(UsageError):
        back = codec.decode(meta, kind(sent), array.shape, shared)
        assert (back.shape, back.dtype) == (array.shape, array.dtype)


def changed(good: bytes):
    """Good bytes with one changed, and perhaps an end cut off or bytes added."""
    return st.builds(
        lambda at, value, end, more: (good[:at] + bytes([value]) + good[at + 1 :])[:end] + more,
        st.integers(0, len(good) - 1), st.integers(0, 255),
        st.just(len(good)) | st.integers(0, len(good)), st.just(b"") | st.binary(max_size=8),
    )  # fmt: skip


@EVERY
def test_a_refusal_names_the_codec_in_one_line(name):
    codec = codec_named(name)
    array = example_array(codec, np.random.default_rng(4))
    shared = example_shared(codec, array[None])
    data = codec.encode(array, shared).data
    with pytest.raises(UsageError, match="^codec '.*': found ") as refused:
        # an odd number of bytes: half of a text's ids is a text
        codec.decode({}, data[: len(data) // 2 | 1], array.shape, shared)
    assert "\n" not in str(refused.value)
    assert str(refused.value).startswith(f"codec '{codec.answers_as}") or codec.carries == "latent"


@EVERY
def test_what_a_codec_needs_is_asked_for(name):
    codec = codec_named(name)
    array = example_array(codec, np.random.default_rng(4))
    if codec.needs_ranges or codec.carries == "latent":
        with pytest.raises(UsageError, match="^codec '.*': found no "):
            codec.encode(array, Shared())
    else:
        codec.encode(array, Shared())


@EVERY
def test_facts_agree_with_each_other(name):
    codec = codec_named(name)
    assert codec.name == name
    answering = codec_named(codec.answers_as)
    assert answering.answers_as == answering.name
    assert (answering.exact, answering.needs_ranges) == (codec.exact, codec.needs_ranges)
    assert not (codec.exact and codec.quantises)
    # where it serves beside pictures' codecs it serves without them as well
    assert codec.serves_at_input(False) or not codec.serves_at_input(True)
    if codec.serves_at_input(False) and codec.carries == "tensor":
        assert codec.size((3, 2, 2)) is not None, "nothing else says how large the input is"


def test_every_family_is_named_once_and_people_read_of_it():
    for family in FAMILIES:
        assert family.shown in known_codecs()
        assert family.examples
        for name in family.examples:
            assert [f for f in FAMILIES if f.named(name) is not None] == [family], name
    packable, others = known_codecs().split(" (each also with +zstd), ")
    for shown in packable.split(", "):
        assert codec_named(f"{shown}+zstd").answers_as == shown
    assert others.replace(" or ", ", ").split(", ")[-1] == "bottleneck"
    assert find_codec("zip") is None
    assert PICTURE[2] == 3


def test_nothing_but_the_codecs_compares_a_codecs_name():
    """Whoever must know what sets a codec apart asks for its facts: a further one has them too."""
    found = []
    for room in ("artefacts", "traces", "models", "controller", "envs", "experiments", "coinfer"):
        for file in (ROOT / room).rglob("*.py"):
            if not file.is_relative_to(CODECS):
                tree = ast.parse(file.read_text())
                where = file.relative_to(ROOT)
                found += [f"{where}:{n.lineno}" for n in ast.walk(tree) if asks_a_name(n)]
    assert found == []


@pytest.mark.parametrize("code", [
    "plan.codec == 'int8'", "codec in ('int8c', 'int4c')", "LEARNED in codecs", "c != LEARNED",
    "codec.removesuffix('+zstd')", "c.startswith('jpeg')", "c.startswith(('int8c', 'int4c'))",
    "c.endswith('+zstd')", "codec == 'uint8' or x",
])  # fmt: skip
def test_a_comparison_would_be_found(code):
    assert any(asks_a_name(node) for node in ast.walk(ast.parse(code)))


def asks_a_name(node: ast.AST) -> bool:
    """Whether code compares a codec, or a part of its name, with a name that is written there."""
    if isinstance(node, ast.Compare):
        sides = [ast.unparse(side) for side in (node.left, *node.comparators)]
        if "LEARNED" in sides:
            return True
        texts = [n.value for side in (node.left, *node.comparators) for n in ast.walk(side)
                 if isinstance(n, ast.Constant) and isinstance(n.value, str)]  # fmt: skip
        about = any("codec" in side.lower() and "'" not in side for side in sides)
        return about and any(find_codec(text) is not None for text in texts)
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
        parts = [n.value for a in node.args for n in ast.walk(a) if isinstance(n, ast.Constant)]
        pieces = node.func.attr in ("removesuffix", "startswith", "endswith", "removeprefix")
        return pieces and any(p in ("+zstd", "jpeg", "webp") or is_codec(p) for p in parts)
    return False


def is_codec(text: object) -> bool:
    return isinstance(text, str) and find_codec(text) is not None
