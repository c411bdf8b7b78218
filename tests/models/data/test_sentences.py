from __future__ import annotations

import numpy as np
import pytest

from artefacts import ArtefactError, UsageError, data_directory
from models.data.sentences import (
    TASKS,
    Texts,
    glue,
    hold_back_sentences,
    read_texts,
    tokenised,
)
from models.data.wordpiece import WordPiece


def _write(tmp_path, text):
    path = tmp_path / "train.tsv"
    path.write_bytes(text.encode())
    return path


def test_a_file_of_each_task_is_read(tmp_path):
    path = _write(tmp_path, 'sentence\tlabel\nit "charms \t1\nbleak \t0\n')
    found = read_texts(path, TASKS["SST-2"])
    assert found.texts == (('it "charms ', None), ("bleak ", None))
    assert found.y.tolist() == [1, 0]
    path = _write(tmp_path, "index\ts1\ts2\tlabel\r\n0\tA.\tB.\tnot_entailment\r\n")
    found = read_texts(path, TASKS["RTE"])
    assert found.texts == (("A.", "B."),)
    assert found.y.tolist() == [1]
    path = _write(tmp_path, "gj04\t0\t*\tThe book.")
    found = read_texts(path, TASKS["CoLA"])
    assert found.texts == (("The book.", None),)
    assert found.classes == ("unacceptable", "acceptable")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("sentence\tlabel\na\t1\nb\n", "line 3: found 1 columns, expected 2, separated by tabs"),
        ("sentence\tlabel\na\t2\n", "line 2, field 'label': found '2', expected one of 0, 1"),
        ("sentence\tlabel\na\t1\n\nb\t0\n", "line 3: found 1 columns"),
        ("sentence\tlabel\n", "found no sentence, expected one a line"),
    ],
)
def test_a_line_that_is_none_is_named(tmp_path, text, message):
    with pytest.raises(ArtefactError, match=message):
        read_texts(_write(tmp_path, text), TASKS["SST-2"])


def test_bytes_that_are_no_text_are_refused(tmp_path):
    path = tmp_path / "train.tsv"
    path.write_bytes(b"sentence\tlabel\n\xff\t1\n")
    with pytest.raises(ArtefactError, match="found byte 15 that is no UTF-8"):
        read_texts(path, TASKS["SST-2"])


def test_a_task_that_is_unknown_or_not_here_is_refused(tmp_path):
    with pytest.raises(UsageError, match="task: found 'SST', expected one of SST-2, RTE, CoLA"):
        glue("SST", "train", tmp_path)
    with pytest.raises(UsageError, match="RTE: found no data folder"):
        glue("RTE", "train", tmp_path)


def test_rows_of_ids_are_padded_behind():
    wordpiece = WordPiece({"a": 4, "b": 5}, padding=0, unknown=1, first=2, separator=3)
    texts = Texts((("a b", None), ("b", "a")), np.array([0, 1], np.uint8), ("no", "yes"))
    found = tokenised(texts, wordpiece, 6)
    assert found.x.dtype == np.uint16
    assert found.x.tolist() == [[2, 4, 5, 3, 0, 0], [2, 5, 3, 4, 3, 0]]
    assert found.lengths.tolist() == [4, 5]
    assert found.take(np.array([1])).y.tolist() == [1]


def test_phrases_of_a_sentence_are_held_back_with_it():
    whole = [f"w{k} x{k} y{k} z{k}" for k in range(20)]
    phrases = [f"x{k} y{k}" for k in range(20)] + ["shared word"]
    whole[3] += " shared word"
    whole[4] += " shared word"
    texts = tuple((t, None) for t in [*whole, *phrases, whole[0]])
    some = Texts(texts, np.zeros(len(texts), np.uint8), ("a", "b"))
    for seed in range(10):
        trained, held = hold_back_sentences(some, seed, 0.2)
        names = {texts[k][0] for k in held}
        assert names <= set(whole)
        assert len(held) == 4  # of 21: one stands there twice
        learnt = {texts[k][0] for k in trained}
        for k, sentence in enumerate(whole):
            assert (sentence in learnt) == (f"x{k} y{k}" in learnt) == (sentence not in names)
        # a phrase of a sentence that trains stays, though another one has it too
        assert ("shared word" in learnt) == (not {whole[3], whole[4]} <= names)
        again = hold_back_sentences(some, seed, 0.2)
        assert np.array_equal(again[0], trained)
        assert np.array_equal(again[1], held)


@pytest.mark.parametrize(("name", "train", "dev"), [("SST-2", 67_349, 872), ("RTE", 2490, 277),
                                                    ("CoLA", 8551, 1043)])  # fmt: skip
def test_the_published_sentences_are_all_there(name, train, dev):
    root = data_directory()
    if root is None or not (root / "glue" / name).is_dir():
        pytest.skip(f"no {name}")
    assert len(glue(name, "train")) == train
    assert len(glue(name, "dev")) == dev
