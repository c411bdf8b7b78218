"""Sizes of samples: what is written is read, rows are shared, and a damaged file is one line."""

import numpy as np
import pytest

from artefacts import ArtefactError
from models.facts.cards import SHIPPED
from models.facts.outcomes import read_outcomes
from models.facts.sizes import ARRAYS, FILE, SampleSizes, read_sizes, save_sizes


def made():
    rng = np.random.default_rng(0)
    one, two = (rng.integers(1, 9000, 50).astype(np.uint32) for _ in range(2))
    return SampleSizes.of(
        "d" * 64, {(0, "jpeg75", 0): one, (1, "jpeg75", 0): one.copy(), (1, "int4c+zstd", 2): two}
    )


def test_what_is_written_is_read_and_equal_rows_are_kept_once(tmp_path):
    sizes = made()
    assert len(sizes.sizes) == 2
    save_sizes(tmp_path, sizes)
    found = read_sizes(tmp_path)
    assert (found.model_digest, found.keys, found.samples) == (sizes.model_digest, sizes.keys, 50)
    for key in sizes.keys:
        assert np.array_equal(found.bytes_of(*key), sizes.bytes_of(*key))
    assert np.array_equal(found.bytes_of(0, "jpeg75", 0), found.bytes_of(1, "jpeg75", 0))
    assert found.bytes_of(0, "float32", 0) is None


@pytest.mark.parametrize("without", ARRAYS)
def test_a_file_that_lacks_an_array_is_refused(tmp_path, without):
    save_sizes(tmp_path, made())
    arrays = dict(np.load(tmp_path / FILE))
    del arrays[without]
    np.savez(tmp_path / FILE, **arrays)
    with pytest.raises(ArtefactError, match=without):
        read_sizes(tmp_path)


@pytest.mark.parametrize(
    ("name", "value"),
    [("format_version", np.array(2)), ("sizes", np.zeros((2, 50))), ("row", np.array([0, 1, 7])),
     ("row", np.array([0, 1])), ("cuts", np.array(["a", "b", "c"])),
     ("sizes", np.zeros((2, 0), dtype=np.uint32))],
)  # fmt: skip
def test_columns_that_do_not_fit_are_refused(tmp_path, name, value):
    save_sizes(tmp_path, made())
    arrays = dict(np.load(tmp_path / FILE)) | {name: value}
    np.savez(tmp_path / FILE, **arrays)
    with pytest.raises(ArtefactError) as refused:
        read_sizes(tmp_path)
    assert FILE in str(refused.value)


def test_the_shipped_sizes_have_the_means_that_the_outcomes_have():
    folder = SHIPPED / "mobilenetv2"
    sizes, outcomes = read_sizes(folder), read_outcomes(folder / "outcomes.npz")
    assert sizes.model_digest == outcomes.model_digest
    assert sizes.samples == outcomes.samples
    varying = 0
    for key, mean in outcomes.wire.items():
        own = sizes.bytes_of(*key)
        if own is None:
            continue
        varying += 1
        # packed tensors' means are of the first 256 samples
        bare = own[:256] if key[1].endswith("+zstd") else own
        assert bare.mean() == pytest.approx(mean, abs=1e-9)
    assert varying > 100
