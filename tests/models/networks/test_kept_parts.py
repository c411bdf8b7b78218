"""A pass over samples that was cut goes on where it was, to the same outcomes bit by bit."""

import functools
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import msgspec
import numpy as np
import pytest

from artefacts import UsageError
from artefacts.processes import child_environment
from coinfer.cli.learning.brought_table import goes_on_from
from models.data.datasets import Samples
from models.data.pictures import generated_pictures
from models.facts.answers import VectorAnswer
from models.facts.cards import load_model, model_digest, save_model
from models.facts.judges import checked_judge, top_k
from models.facts.outcomes import read_outcomes
from models.facts.preprocessing import PictureInput
from models.networks import kept_parts
from models.networks.brought.card_entries import judge_of_values
from models.networks.brought.signatures import Taken
from models.networks.judging import judge
from models.networks.kept_parts import FOLDER, KeptParts, function_digest, is_begun, kept_in
from models.networks.publishing import Origin, Signature, publish
from models.networks.sizes import record_sizes

CODECS = ("int8", "int4c+zstd", "jpeg50")
COUNT, BATCH = 60, 10


@pytest.fixture(scope="module")
def samples():
    rng = np.random.default_rng(2)
    return Samples(
        generated_pictures(COUNT, rng, side=8), rng.integers(0, 10, COUNT).astype(np.uint8)
    )


class Interrupted:
    """Listens to a pass, and interrupts it once so many samples are done."""

    def __init__(self, after=None):
        self.after, self.seen = after, []

    def __call__(self, done, total):
        self.seen.append(done)
        if self.after is not None and done >= self.after:
            raise KeyboardInterrupt


def every(folder, name="outcomes"):
    """Parts are due at once."""
    return functools.partial(KeptParts, folder, name, keep_s=0.0)


def run(model, samples, folder, after=None, **changed):
    heard = Interrupted(after)
    given = {"codecs": ("int8", "jpeg50"), "batch": BATCH, "keep": every(folder)} | changed
    try:
        return heard.seen, judge(model, samples, "made up", heard, **given)
    except KeyboardInterrupt:
        return heard.seen, None


def same(one, other):
    assert one.keys == other.keys
    assert dict(one.wire) == dict(other.wire)
    for name in ("quality", "sure", "chosen", "logits", "labels"):
        a, b = getattr(one, name), getattr(other, name)
        assert a.dtype == b.dtype
        assert np.array_equal(a, b), name


@pytest.mark.parametrize("cuts", [(20,), (10, 30, 50), (60,)])
def test_a_pass_that_was_cut_goes_on_to_the_same_outcomes(tiny_model, samples, tmp_path, cuts):
    _, whole = run(tiny_model, samples, tmp_path / "whole")
    reached = 0
    for after in cuts:
        seen, none = run(tiny_model, samples, tmp_path, after)
        assert none is None
        assert seen[0] == (reached or BATCH)  # what is behind it is not computed again
        reached = after
    seen, found = run(tiny_model, samples, tmp_path)
    assert seen[0] == reached
    same(found, whole)


def other_judge(rows, labels):
    return 1.0 - top_k(1, rows, labels)


def test_nothing_else_is_continued(tiny_model, samples, tmp_path):
    changes = [
        {"codecs": ("int8",)},
        {"judge_by": other_judge},
        {"judge_by": functools.partial(top_k, 2)},
        {"samples": Samples(samples.x, (samples.y + 1) % 10)},
        {"samples": Samples(samples.x[::-1], samples.y)},
        {"batch": 15},
    ]
    for change in changes:
        shutil.rmtree(tmp_path / FOLDER, ignore_errors=True)
        run(tiny_model, samples, tmp_path, 30)
        given = dict(change)
        seen, found = run(tiny_model, given.pop("samples", samples), tmp_path, **given)
        assert seen[0] == given.get("batch", BATCH), change
        given = dict(change)
        _, whole = run(tiny_model, given.pop("samples", samples), tmp_path / "whole", **given)
        same(found, whole)


def test_other_weights_are_another_pass(tiny_model, tiny_spec, samples, tmp_path):
    run(tiny_model, samples, tmp_path, 30)
    state = {name: value * np.float32(1.5) for name, value in tiny_model.state.items()}
    card = msgspec.structs.replace(tiny_model.card, digest=model_digest(tiny_spec, state))
    save_model(tmp_path / "other", state, card)
    seen, _ = run(load_model(tmp_path / "other"), samples, tmp_path)
    assert seen[0] == BATCH


def test_a_judge_that_has_come_to_judge_otherwise_begins_anew(tiny_model, samples, tmp_path):
    share = [1.0]  # what a module would hold that the judge imports: its own source stays the same

    def mine(rows, labels):
        return share[0] * top_k(1, rows, labels)

    run(tiny_model, samples, tmp_path, 30, judge_by=checked_judge("mine:judge", mine))
    share[0] = 0.5
    seen, found = run(tiny_model, samples, tmp_path, judge_by=checked_judge("mine:judge", mine))
    assert seen[0] == BATCH
    assert set(np.unique(found.quality).tolist()) == {0.0, 0.5}


def test_judges_of_rows_that_end_with_a_confidence_differ():
    made = [
        judge_of_values(
            Taken(PictureInput(), (3, 8, 8), judge=judge_by, confidence=lambda rows: rows[:, 0]),
            VectorAnswer(),
        )
        for judge_by in (functools.partial(top_k, 2), functools.partial(top_k, 1), other_judge)
    ]
    assert len({function_digest(one) for one in made}) == 3
    rows, labels = np.float32([[1, 2, 9]]), np.array([1])
    assert [one(rows, labels).tolist() for one in made] == [[1.0], [1.0], [0.0]]


def test_what_is_damaged_counts_as_not_there(tiny_model, samples, tmp_path):
    _, whole = run(tiny_model, samples, tmp_path / "whole")
    run(tiny_model, samples, tmp_path, 40)
    parts = sorted((tmp_path / FOLDER).glob("*.npz"))
    assert len(parts) == 4
    parts[2].write_bytes(parts[2].read_bytes()[:100])
    seen, found = run(tiny_model, samples, tmp_path)
    assert seen[0] == 20
    same(found, whole)
    shutil.rmtree(tmp_path / FOLDER)
    run(tiny_model, samples, tmp_path, 20)
    for part in (tmp_path / FOLDER).glob("*.npz"):
        arrays = dict(np.load(part))
        np.savez(part, **arrays | {"quality": arrays["quality"][:, :1]})
    seen, found = run(tiny_model, samples, tmp_path)
    assert seen[0] == BATCH
    same(found, whole)


def test_small_passes_keep_nothing_and_long_ones_a_part_now_and_then(tiny_model, samples, tmp_path):
    run(tiny_model, samples, tmp_path, 50, keep=kept_in(tmp_path, "outcomes"))
    assert not (tmp_path / FOLDER).exists()
    now = [0.0]

    def clock():
        now[0] += 0.5  # asked once a batch: every fourth batch is two seconds later
        return now[0]

    keep = functools.partial(KeptParts, tmp_path, "outcomes", clock=clock)
    run(tiny_model, samples, tmp_path, 50, keep=keep)
    assert len(list((tmp_path / FOLDER).glob("*.npz"))) == 1


def test_scores_that_are_no_numbers_are_refused_after_a_part(tiny_model, samples, tmp_path):
    run(tiny_model, samples, tmp_path, 20)
    tiny_model.state["fc3.bias"] = np.full_like(tiny_model.state["fc3.bias"], np.nan)
    with pytest.raises(UsageError, match="scores that are not finite numbers"):
        run(tiny_model, samples, tmp_path)


def published(tiny_model, samples, folder, heard):
    origin = Origin(tuple("abcdefghij"), "made up", "made up", {"seed": 0})
    return publish(
        folder, tiny_model.spec, dict(tiny_model.state), origin,
        Signature(tiny_model.card.preprocessing), samples.take(np.arange(20)), samples,
        codecs=CODECS, progress=heard,
    )  # fmt: skip


WRITTEN = ("outcomes.npz", "held_back.npz", "sizes.npz", "activations.json", "card.json")


def test_publishing_goes_on_and_leaves_no_parts(tiny_model, samples, tmp_path, monkeypatch):
    monkeypatch.setattr(kept_parts, "KEEP_S", 0.0)
    published(tiny_model, samples, tmp_path / "whole", Interrupted())
    assert not is_begun(tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        published(tiny_model, samples, tmp_path / "cut", Interrupted(after=30))
    assert is_begun(tmp_path / "cut")
    # what the command says when it is interrupted
    assert goes_on_from(tmp_path / "cut", tmp_path / "checkpoint.pt") == tmp_path / "cut" / FOLDER
    assert goes_on_from(tmp_path / "whole", tmp_path / "c.pt") == tmp_path / "c.pt"
    heard = Interrupted()
    published(tiny_model, samples, tmp_path / "cut", heard)
    assert heard.seen[0] == 50  # batches are of 25: the second one was behind it
    assert not (tmp_path / "cut" / FOLDER).exists()
    for name in WRITTEN:
        one, other = ((tmp_path / of / name) for of in ("whole", "cut"))
        assert one.exists() == other.exists()
        assert not one.exists() or one.read_bytes() == other.read_bytes(), name
    assert (tmp_path / "cut" / "sizes.npz").exists()


def test_sizes_go_on(tiny_model, samples, tmp_path, monkeypatch):
    monkeypatch.setattr("models.networks.sizes.BATCH", BATCH)
    published(tiny_model, samples, tmp_path / "model", Interrupted())
    model = load_model(tmp_path / "model")
    outcomes = read_outcomes(tmp_path / "model" / "outcomes.npz")
    whole = record_sizes(model, outcomes, samples)
    with pytest.raises(KeyboardInterrupt):
        record_sizes(model, outcomes, samples, Interrupted(30), every(tmp_path, "sizes"))
    heard = Interrupted()
    found = record_sizes(model, outcomes, samples, heard, every(tmp_path, "sizes"))
    assert heard.seen[0] == 30 + BATCH
    assert found.keys == whole.keys
    assert np.array_equal(found.sizes, whole.sizes)
    assert np.array_equal(found.row, whole.row)


KILLED = """
import os, signal, sys
from pathlib import Path
import numpy as np
from models.data.datasets import Samples
from models.facts.cards import load_model
from models.networks.judging import judge
from models.networks.kept_parts import KeptParts

folder = Path(sys.argv[1])
kept = np.load(folder / "samples.npz")

def die(done, total):
    if done >= 30:
        os.kill(os.getpid(), int(sys.argv[2]))

judge(load_model(folder / "tiny"), Samples(kept["x"], kept["y"]), "made up", die,
      codecs=("int8", "jpeg50"), batch=10,
      keep=lambda identity: KeptParts(folder, "outcomes", identity, keep_s=0.0))
"""


@pytest.mark.slow
@pytest.mark.system
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_killed_process_s_pass_goes_on_in_another(tiny_model, samples, tmp_path, number):
    np.savez(tmp_path / "samples.npz", x=samples.x, y=samples.y)
    done = subprocess.run(
        [sys.executable, "-P", "-c", KILLED, str(tmp_path), str(int(number))],
        env=child_environment(None) | {"PYTHONPATH": str(Path(__file__).parents[3])},
        check=False, timeout=120,
    )  # fmt: skip
    assert done.returncode == -number
    _, whole = run(tiny_model, samples, tmp_path / "whole")
    seen, found = run(tiny_model, samples, tmp_path)
    assert seen[0] == 30
    same(found, whole)
