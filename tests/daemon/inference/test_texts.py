"""Texts of a request: a vocabulary beside the model makes them token ids."""

import importlib
import json

import numpy as np
import pytest
from made_networks import TOKENS, made_model

from artefacts import ArtefactError
from controller.daemon.inference.texts import TOKENIZER, VOCABULARY, tokeniser_beside
from models.facts.preprocessing import TokenInput

pytestmark = pytest.mark.quick

PIECES = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "the", "cat", "##s", "sat", "!", "no"]
TAKES = TokenInput(50)


@pytest.fixture
def folder(tmp_path):
    (tmp_path / VOCABULARY).write_text("\n".join(PIECES) + "\n")
    return tmp_path


def test_a_vocabulary_makes_ids_of_a_text_and_of_a_pair(folder):
    found = tokeniser_beside(folder, TAKES)
    assert found.encode("The cats sat!", length=TOKENS) == [2, 4, 5, 6, 7, 8, 3]
    assert found.encode("no", "cat", length=TOKENS) == [2, 9, 3, 5, 3]
    assert len(found.encode("cat " * 50, length=TOKENS)) == TOKENS


def test_without_one_there_is_none(tmp_path):
    assert tokeniser_beside(tmp_path, TAKES) is None


def test_one_of_another_network_is_refused(folder):
    with pytest.raises(ArtefactError, match="found 10 pieces, padding 0, expected at most 9"):
        tokeniser_beside(folder, TokenInput(9))
    with pytest.raises(ArtefactError, match="padding 1, as the card says"):
        tokeniser_beside(folder, TokenInput(50, padding=1))
    (folder / VOCABULARY).write_text("a\nb\n")
    with pytest.raises(ArtefactError, match=r"field '\[PAD\]': found nothing"):
        tokeniser_beside(folder, TAKES)


def test_a_file_of_the_package_is_read_where_that_is_installed(tmp_path):
    (tmp_path / TOKENIZER).write_text("{}")
    if importlib.util.find_spec("tokenizers") is None:
        assert tokeniser_beside(tmp_path, TAKES) is None
        pytest.skip("tokenizers is not installed")
    with pytest.raises(ArtefactError, match="expected a tokeniser"):
        tokeniser_beside(tmp_path, TAKES)
    ids = {piece: k for k, piece in enumerate(PIECES)}
    whole = {
        "version": "1.0", "truncation": None, "padding": None, "added_tokens": [],
        "normalizer": {"type": "Lowercase"}, "pre_tokenizer": {"type": "Whitespace"},
        "post_processor": None, "decoder": None,
        "model": {"type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##",
                  "max_input_chars_per_word": 100, "vocab": ids},
    }  # fmt: skip
    (tmp_path / TOKENIZER).write_text(json.dumps(whole))
    found = tokeniser_beside(tmp_path, TAKES)
    assert list(found.encode("The cats sat!", length=TOKENS)) == [4, 5, 6, 7, 8]
    with pytest.raises(Exception, match="found a text of 13, expected at most 12"):
        found.encode("cat " * 13, length=TOKENS)


def test_ids_are_those_that_the_network_is_given(folder, tmp_path):
    model = made_model("words", tmp_path / "models")
    text = "\n".join(PIECES) + "\n"
    (model.folder / VOCABULARY).write_text(text)
    found = tokeniser_beside(model.folder, model.preprocessing)
    ids = np.zeros(TOKENS, np.int32)
    ids[:5] = found.encode("no", "cat", length=TOKENS)
    assert model.normalise(ids[None]).tolist() == [[2, 9, 3, 5, 3, 0, 0, 0, 0, 0, 0, 0]]
