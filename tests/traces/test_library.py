import io
import json
import zipfile

import numpy as np
import pytest

from artefacts import UsageError, data_directory
from traces import fetch
from traces.formats import ReadOptions, read_traces
from traces.library import (
    FOLDERS,
    FORMAT_VERSION,
    FORMATS,
    PARTS,
    Split,
    load_split,
    read_split,
)
from traces.states import oboe_states, states_by_quantiles
from traces.trace import BandwidthTrace


def drawn_split(family, files, shares, seed):
    """How the shipped splits were drawn: `shares` of validation and test.

    Every mode of three files or more is in each of them.

    Modes with fewer files go to training whole. Within a mode the order is drawn by `seed`; what
    rounding leaves over goes to the modes of which a part has least.
    """
    rng = np.random.default_rng(seed)
    modes = sorted({f.mode for f in files})
    sizes = {mode: sum(f.mode == mode for f in files) for mode in modes}
    parts = {part: [] for part in PARTS}
    wanted = {"validation": round(shares[0] * len(files)), "test": round(shares[1] * len(files))}
    pools = {}
    for mode in modes:
        mine = sorted((f for f in files if f.mode == mode), key=lambda f: f.file)
        order = [mine[i] for i in rng.permutation(len(mine))]
        if len(order) >= 3:
            # test first, so that every such mode is reported on
            parts["test"].append(order.pop())
        pools[mode] = order
    for part in ("validation", "test"):
        while len(parts[part]) < wanted[part]:
            spare = [m for m in modes if sizes[m] >= 3 and len(pools[m]) >= 2]
            if not spare:
                break
            held = [f.mode for f in parts[part]]
            poorest = min(spare, key=lambda m: (held.count(m) / len(pools[m]), -len(pools[m])))
            parts[part].append(pools[poorest].pop())
    for mode in modes:
        parts["train"].extend(pools[mode])
    ordered = {p: tuple(sorted(fs, key=lambda f: f.file)) for p, fs in parts.items()}
    return Split(FORMAT_VERSION, family, seed, **ordered)


@pytest.mark.parametrize(("family", "counts"), [("belgium", (15, 4, 8)), ("norway", (35, 9, 14))])
def test_splits_are_disjoint_and_reproducible(family, counts):
    split = read_split(family)
    parts = [getattr(split, p) for p in PARTS]
    assert tuple(len(p) for p in parts) == counts
    names = [f.file for p in parts for f in p]
    assert len(set(names)) == len(names)
    files = [f for p in parts for f in p]
    shares = (4 / 27, 8 / 27) if family == "belgium" else (0.15, 0.25)
    assert drawn_split(family, files, shares, 20200) == split


def test_modes_with_three_files_are_reported_on():
    split = read_split("belgium")
    files = [f for p in PARTS for f in getattr(split, p)]
    common = {m for m in {f.mode for f in files} if sum(f.mode == m for f in files) >= 3}
    assert {f.mode for f in split.test} == common


def test_stand_ins_are_the_same_everywhere_and_say_so(monkeypatch, tmp_path):
    monkeypatch.setenv("COINFER_DATA", str(tmp_path))
    one, two = load_split("belgium", "test"), load_split("belgium", "test")
    assert one.generated
    assert "generated" in one.source
    assert [t.name for t in one.traces] == [
        f.file.removesuffix(".log") + ".generated" for f in read_split("belgium").test
    ]
    for a, b, f in zip(one.traces, two.traces, read_split("belgium").test, strict=True):
        assert a.rates_bps.tolist() == b.rates_bps.tolist()
        assert a.duration_s == f.duration_s


def test_a_folder_of_data_that_is_not_there_is_no_reason_for_stand_ins(monkeypatch, tmp_path):
    monkeypatch.setenv("COINFER_DATA", str(tmp_path / "nowhere"))
    with pytest.raises(UsageError, match=r"COINFER_DATA: found '.*nowhere', expected a folder"):
        load_split("belgium", "test")


def test_real_logs_are_used_where_they_are():
    if data_directory() is None:
        pytest.skip("the data folder is not here: ../shared/data or COINFER_DATA")
    found = load_split("norway", "validation")
    assert not found.generated
    for trace, f in zip(found.traces, read_split("norway").validation, strict=True):
        assert trace.duration_s == pytest.approx(f.duration_s, abs=1e-3)


def test_an_unknown_part_is_named():
    with pytest.raises(UsageError, match="found part 'exam'"):
        load_split("belgium", "exam")


def test_oboe_has_428_states_within_its_published_range():
    states = oboe_states()
    assert len(states) == 428
    assert min(s.mean_bps for s in states) >= 0.3e6
    assert max(s.mean_bps for s in states) <= 6e6


def test_oboes_states_are_its_sessions_means_and_deviations_weighted_by_time():
    root = data_directory()
    folder = None if root is None else root / "traces" / FOLDERS["oboe"]
    if folder is None or not folder.is_dir():
        pytest.skip("Oboe's sessions: found none in COINFER_DATA, expected the published ones")
    sessions = read_traces(folder, ReadOptions(format=FORMATS["oboe"]))
    found = [(s.mean_bps, s.std_bps) for s in oboe_states()]
    expected = []
    for trace in sessions:
        lengths = np.diff(np.append(trace.times_s, trace.duration_s))
        mean = np.average(trace.rates_bps, weights=lengths)
        expected.append((mean, np.sqrt(np.average((trace.rates_bps - mean) ** 2, weights=lengths))))
    np.testing.assert_allclose(sorted(found), sorted(expected), rtol=1e-9)


def test_quantile_states_rise():
    rng = np.random.default_rng(0)
    trace = BandwidthTrace("t", np.arange(400.0), rng.random(400) * 1e6, 400.0)
    means = [s.mean_bps for s in states_by_quantiles([trace], 8, 5.0)]
    assert len(means) == 8
    assert means == sorted(means)


def test_fetch_refuses_other_bytes_and_keeps_the_published(tmp_path):
    digests = {"a.log": fetch.digest_bytes(b"right")}
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("logs/a.log", "right")
        archive.writestr("logs/unknown.log", "other")
    assert fetch.unpack(buffer.getvalue(), digests, tmp_path) == 1
    assert (tmp_path / "a.log").read_bytes() == b"right"
    assert not (tmp_path / "unknown.log").exists()
    bad = {"a.log": fetch.digest_bytes(b"something else")}
    with pytest.raises(fetch.FetchError, match=r"a\.log: found digest"):
        fetch.unpack(buffer.getvalue(), bad, tmp_path)
    with pytest.raises(fetch.FetchError, match="no zip file"):
        fetch.unpack(b"not a zip", digests, tmp_path)


def test_verification_tells_good_missing_and_wrong(tmp_path):
    name, *_ = fetch.known_digests("mahimahi")
    folder = tmp_path / "traces" / "mahimahi"
    folder.mkdir(parents=True)
    (folder / name).write_text("1\n")
    found = fetch.verify_family("mahimahi", tmp_path)
    assert (found.good, found.wrong, len(found.missing)) == (0, (name,), 1)


def test_a_set_without_an_archive_says_how_to_get_it(tmp_path):
    with pytest.raises(fetch.FetchError, match="get it by hand from https://github.com/USC-NSL"):
        fetch.fetch_family("oboe", tmp_path, lambda line: None)


def test_digests_cover_the_515_files():
    table = json.loads((fetch.SPLITS / "digests.json").read_text())
    assert len(table) == 515
