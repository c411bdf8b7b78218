from __future__ import annotations

import itertools
import json

import numpy as np
import pytest
import safetensors.numpy
import torch

from artefacts import ArtefactError, UsageError
from models.data.pictures import generated_pictures
from models.facts.cards import load_model, model_digest, save_model
from models.facts.outcomes import read_outcomes
from models.networks.training_data import Normalisation


def test_a_model_comes_back_as_it_was_saved(tiny_model, tiny_folder, tmp_path):
    save_model(tmp_path / "copy", tiny_model.state, tiny_model.card)
    copy = load_model(tmp_path / "copy")
    assert copy.digest == tiny_model.digest
    assert copy.card == tiny_model.card
    assert copy.spec == tiny_model.spec
    for name, array in tiny_model.state.items():
        assert np.array_equal(copy.state[name], array)
    assert sorted(p.name for p in (tmp_path / "copy").iterdir()) == [
        "card.json",
        "weights.safetensors",
    ]


def test_the_digest_sees_parameters_and_architecture(tiny_model):
    state = {name: array.copy() for name, array in tiny_model.state.items()}
    assert model_digest(tiny_model.spec, state) == tiny_model.digest
    state["fc3.bias"][0] += np.float32(1e-6)
    assert model_digest(tiny_model.spec, state) != tiny_model.digest


def test_normalising_equals_the_training_sides(tiny_model):
    x = generated_pictures(5, np.random.default_rng(1))
    theirs = Normalisation(tiny_model.preprocessing.mean, tiny_model.preprocessing.std).apply(x)
    mine = tiny_model.normalise(x)
    assert mine.dtype == np.float32
    assert mine.flags.c_contiguous
    assert np.array_equal(mine, theirs.contiguous().numpy())
    assert torch.from_numpy(mine).shape == (5, 3, 32, 32)


def _change_card(folder, change):
    path = folder / "card.json"
    card = json.loads(path.read_text())
    change(card)
    path.write_text(json.dumps(card))


def _drop_stride(card):
    card["network"]["trunk"][3]["stride"] = 0


CARD_CHANGES = {
    "version": (
        lambda c: c.update(format_version=9),
        "field 'format_version': found 9, expected 2",
    ),
    "missing": (lambda c: c.pop("preprocessing"), "no field 'preprocessing'"),
    "unknown": (lambda c: c.update(colour=1), "unknown field 'colour'"),
    "type": (lambda c: c["network"].update(classes="ten"), "field 'network.classes'"),
    "network": (_drop_stride, "field 'network': found layer 'pool1'"),
    "classes": (lambda c: c.update(classes=["a"]), "field 'classes': found 1, expected 10"),
    "exits": (lambda c: c.update(test_accuracies=[0.5]), "field 'test_accuracies': found 1"),
    "std": (
        lambda c: c["preprocessing"].update(std=[1, 0, 1]),
        r"field 'network': found std: found \(1\.0, 0\.0, 1\.0\), expected finite ones, 0\.0001 or",
    ),
    "channels": (
        lambda c: c["preprocessing"].update(channels="grey"),
        r"field 'network': found mean: found .*, expected one number \(grey\)",
    ),
    "colours": (
        lambda c: c["preprocessing"].update(channels="yuv"),
        "field 'preprocessing.channels'",
    ),
    "fit": (
        lambda c: c["preprocessing"].update(fit="letterbox", fill=300),
        "field 'network': found fill: found 300, expected a level of 0 to 255",
    ),
    "answers": (
        lambda c: c.update(answers={"kind": "boxes", "queries": 3}),
        "field 'network': found answers: found 10 values of 3 boxes",
    ),
}


@pytest.mark.parametrize("case", CARD_CHANGES)
def test_a_card_that_does_not_fit_names_file_and_field(case, tiny_folder):
    change, message = CARD_CHANGES[case]
    _change_card(tiny_folder, change)
    with pytest.raises(ArtefactError, match=message) as caught:
        load_model(tiny_folder)
    assert str(tiny_folder / "card.json") in str(caught.value)


def test_a_card_of_format_1_is_of_pictures_and_classes(tiny_folder, tiny_model):
    def older(card):
        picture = card.pop("preprocessing")
        card.pop("answers", None)
        card.update(format_version=1, mean=picture["mean"], std=picture["std"])

    _change_card(tiny_folder, older)
    assert load_model(tiny_folder).card == tiny_model.card
    _change_card(tiny_folder, lambda card: card.pop("std"))
    with pytest.raises(ArtefactError, match=r"card\.json"):
        load_model(tiny_folder)


def _rename(state):
    state["fc9.bias"] = state.pop("fc3.bias")


WEIGHT_CHANGES = {
    "missing": (lambda s: s.pop("fc3.bias"), r"field 'fc3.bias': found nothing"),
    "extra": (
        lambda s: s.update(more=np.zeros(1, np.float32)),
        "field 'more': found a tensor, expected none of that name in 'tiny'",
    ),
    "shape": (
        lambda s: s.update({"fc3.bias": np.zeros(9, np.float32)}),
        r"field 'fc3.bias': found float32 \(9,\), expected float32 \(10,\)",
    ),
    "type": (
        lambda s: s.update({"fc3.bias": np.zeros(10, np.float64)}),
        "field 'fc3.bias': found float64",
    ),
    "value": (lambda s: s.update({"fc3.bias": np.zeros(10, np.float32)}), "field 'digest'"),
    "renamed": (_rename, "field 'fc3.bias': found nothing"),
}


@pytest.mark.parametrize("case", WEIGHT_CHANGES)
def test_weights_that_do_not_fit_name_the_tensor(case, tiny_folder):
    change, message = WEIGHT_CHANGES[case]
    path = tiny_folder / "weights.safetensors"
    state = safetensors.numpy.load_file(path)
    change(state)
    safetensors.numpy.save_file(state, path)
    with pytest.raises(ArtefactError, match=message):
        load_model(tiny_folder)


def test_broken_and_missing_files_are_refused(tiny_folder, tmp_path):
    (tiny_folder / "weights.safetensors").write_bytes(b"\x08\x00junk")
    with pytest.raises(ArtefactError, match="expected safetensors weights"):
        load_model(tiny_folder)
    (tiny_folder / "weights.safetensors").unlink()
    with pytest.raises(ArtefactError, match="found no such file, expected safetensors weights"):
        load_model(tiny_folder)
    with pytest.raises(ArtefactError, match=r"card\.json: found no such file"):
        load_model(tmp_path)
    with pytest.raises(UsageError, match="model: found 'resnet', expected a folder"):
        load_model("resnet")


def test_the_shipped_model_meets_its_bars():
    model = load_model("alexnet")
    outcomes = read_outcomes(model.folder / "outcomes.npz")
    accuracies = [outcomes.accuracy(i) for i in range(5)]
    assert outcomes.model_digest == model.digest
    assert outcomes.samples == 10_000
    assert list(model.card.test_accuracies) == accuracies
    assert accuracies[-1] >= 0.84
    assert accuracies[0] >= 0.65
    assert all(b >= a - 0.005 for a, b in itertools.pairwise(accuracies))


def test_a_judge_that_does_not_fit_the_answers_is_found_when_the_card_is_read(tiny_folder):
    card = json.loads((tiny_folder / "card.json").read_text())
    (tiny_folder / "card.json").write_text(json.dumps(card | {"judge": "map"}))
    with pytest.raises(ArtefactError, match="judge: found 'map', expected top-K"):
        load_model(tiny_folder)


@pytest.mark.parametrize(
    ("shape", "classes", "said"),
    [
        ((3, 60_000, 60_000), 10, "found a tensor of shape (3, 60000, 60000), expected sizes abo"),
        ((3, 0, 32), 10, "found a tensor of shape (3, 0, 32)"),
        ((3, 32, -32), 10, "found a tensor of shape (3, 32, -32)"),
        ((3, 32, 32), 11, "found an end of shape (10,), expected 11 values"),
    ],
)
def test_sizes_that_no_machine_holds_are_refused_before_room_is_made(
    tiny_folder, shape, classes, said
):
    layers = [{"name": "fc", "kind": "fc", "channels": 10}]

    def planted(card):
        network = {"name": "planted", "input_shape": shape, "classes": classes, "trunk": layers}
        card["network"] = network | {"exits": [{"after": 1}]}
        for figures in ("held_back_accuracies", "test_accuracies", "temperatures"):
            card[figures] = []

    _change_card(tiny_folder, planted)
    with pytest.raises(ArtefactError) as error:
        load_model(tiny_folder)
    assert said in str(error.value)
    assert "card.json" in str(error.value)
