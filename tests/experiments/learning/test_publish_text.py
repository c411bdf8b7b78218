"""A trained text encoder becomes a model's folder: a made-up task and a tiny encoder."""

import json
from dataclasses import asdict

import numpy as np
import pytest
import safetensors.numpy
import torch

from artefacts import ArtefactError
from experiments.learning import publish_text as command
from models.data.judged_sentences import judged_sentences
from models.executors import OnnxExecutor
from models.facts.cards import load_model
from models.facts.outcomes import read_outcomes
from models.facts.preprocessing import TokenInput
from models.facts.profiles import read_profile
from models.facts.sizes import read_sizes
from models.networks.text import TextEncoder, TextShape
from models.networks.text_publishing import CODECS, publish_text, read_trained
from models.networks.text_recipe import save_text

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "good", "bad", *(f"w{k}" for k in range(150))]
SHAPE = TextShape(2, 2, 36, 3, 72, len(WORDS), 16, "both")
TRAINING = {
    "format_version": 1, "task": "SST-2", "classes": ["negative", "positive"],
    "network": asdict(SHAPE), "arguments": {"seed": 0, "epochs": 1}, "trained_on": 380,
    "steps": 12, "planned": 12, "best_epoch": 1, "judged": [], "seconds": 1.0, "torch": "2",
    "machine": "x86_64",
}  # fmt: skip


@pytest.fixture
def trained(tmp_path, monkeypatch):
    """A folder as `train_text` leaves it, and the task's files."""
    rng = np.random.default_rng(1)
    data = tmp_path / "data" / "glue" / "SST-2"
    data.mkdir(parents=True)
    for name, count in (("train", 400), ("dev", 30), ("test_labelled", 40)):
        lines = []
        for _ in range(count):
            label = int(rng.integers(2))
            words = [*rng.choice(WORDS[6:], int(rng.integers(3, 9))), ("bad", "good")[label]]
            lines.append(f"{' '.join(words)} \t{label}")
        (data / f"{name}.tsv").write_text("sentence\tlabel\n" + "\n".join(lines) + "\n")
    monkeypatch.setenv("COINFER_DATA", str(tmp_path / "data"))
    folder = tmp_path / "trained"
    folder.mkdir()
    torch.manual_seed(0)
    save_text(folder, TextEncoder(SHAPE).eval(), "\n".join(WORDS).encode())
    (folder / "training.json").write_text(json.dumps(TRAINING))
    return folder


def test_the_folder_is_a_model_whose_outcomes_are_of_the_weights_that_ship(trained, tmp_path):
    out = tmp_path / "minilm-sst2"
    out.mkdir()
    made = publish_text(read_trained(trained), out, codecs=("int4c", "ids16", "ids32"))
    model = load_model(out)
    assert model.spec.name == "minilm-sst2"
    assert model.card.classes == ("negative", "positive")
    assert model.preprocessing == TokenInput(len(WORDS), 0)
    assert (out / "vocab.txt").read_bytes() == (trained / "vocab.txt").read_bytes()
    stored = safetensors.numpy.load_file(out / "weights.safetensors")
    assert sum(values.dtype == np.int8 for values in stored.values()) >= 1
    outcomes = read_outcomes(out / "outcomes.npz")
    assert outcomes.dataset == "SST-2 test (40 sentences)"
    assert model.card.test_accuracies == tuple(made.accuracy(i) for i in range(2))
    assert len(model.temperatures) == 2

    # what the folder's own weights say of the sentences is what was recorded
    test = judged_sentences(outcomes.dataset, out / "vocab.txt", SHAPE.length)
    last, executor = len(model.spec.exits) - 1, OnnxExecutor(model)
    rows = executor.run(last, 0, len(model.spec.trunk), model.normalise(test.x))
    assert np.array_equal(outcomes.quality_of(last), rows.argmax(1) == test.y)
    assert np.array_equal(outcomes.labels, test.y)
    # ids cross as they are, and a long sentence takes more of them
    for codec in ("ids16", "ids32"):
        assert np.array_equal(outcomes.quality_of(last, codec, 0), outcomes.quality_of(last))
    sent = read_sizes(out).bytes_of(last, "ids16", 0)
    assert np.array_equal(sent, 2 * ((test.x != 0).sum(1) + (test.x[:, -1] == 0)))
    assert {key[1] for key in outcomes.keys} == {"float32", "int4c"}


def test_the_command_writes_profiles_that_say_what_they_are(trained, tmp_path, capsys):
    out = tmp_path / "model"
    given = ["--trained", str(trained), "--out", str(out), "--repeats", "2", "--machines", "pi4"]
    threads = torch.get_num_threads()
    assert command.main(given) == 0
    assert command.main([*given, "--profiles-only"]) == 0
    torch.set_num_threads(threads)
    model = load_model(out)
    assert tuple(json.loads(capsys.readouterr().out.splitlines()[-1])["accuracies"]) == (
        model.card.test_accuracies
    )
    measured, published = (
        read_profile(out / "profiles" / f"{n}.json") for n in ("edge-x86", "pi4")
    )
    assert measured.host is not None
    assert published.host is None
    assert "published, not measured" in published.transcribed
    assert {codec.codec for codec in measured.codecs} == set(CODECS)
    slower = published.interval_s(1, 0, 3) / measured.interval_s(1, 0, 3)
    assert slower > 1.0


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("task", "MNLI", "training.json: found task: found 'MNLI'"),
        ("format_version", 9, "format_version"),
        ("network", {"classes": 2, "wide": 3}, "expected a text encoder"),
        ("network", asdict(SHAPE) | {"width": 39}, "weights.safetensors.*expected the weights of"),
    ],
)
def test_what_is_no_trained_encoder_is_refused(trained, field, value, said):
    (trained / "training.json").write_text(json.dumps(TRAINING | {field: value}))
    with pytest.raises(ArtefactError, match=said):
        read_trained(trained)


def test_a_mistake_is_one_line(trained, tmp_path, capsys):
    with pytest.raises(SystemExit) as ended:
        command.main(["--trained", str(trained), "--out", str(tmp_path / "o"), "--machines", "pi9"])
    assert ended.value.code == 2
    assert "device: found 'pi9', expected one of pi3" in capsys.readouterr().err


def test_judged_sentences_are_found_by_the_name_of_their_set(trained, tmp_path, monkeypatch):
    vocabulary = trained / "vocab.txt"
    assert len(judged_sentences("SST-2 validation (30 sentences)", vocabulary, 16)) == 30
    assert judged_sentences("CIFAR-10 test (10000 pictures)", vocabulary, 16) is None
    monkeypatch.setenv("COINFER_DATA", str(tmp_path / "trained"))
    assert judged_sentences("SST-2 validation (30 sentences)", vocabulary, 16) is None
