from __future__ import annotations

import random

import pytest

from artefacts import ArtefactError, UsageError, data_directory
from models.data.sentences import PARTS, TASKS, glue
from models.data.wordpiece import read_wordpiece

PIECES = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "un", "##aff", "##able", "##a", "wa", "##nt", "want",
          "##ed", ",", "!", "cafe", "i", "'", "m", "中"]  # fmt: skip


@pytest.fixture
def wordpiece(tmp_path):
    (tmp_path / "vocab.txt").write_text("\n".join(PIECES) + "\n")
    return read_wordpiece(tmp_path / "vocab.txt")


def _pieces(wordpiece, text, other=None, length=32):
    return [PIECES[k] for k in wordpiece.encode(text, other, length=length)]


def test_the_longest_piece_is_taken_first(wordpiece):
    found = _pieces(wordpiece, "Unaffable, WANTED!")
    assert found == ["[CLS]", "un", "##aff", "##able", ",", "want", "##ed", "!", "[SEP]"]


def test_what_cannot_be_made_of_pieces_is_unknown_as_a_whole(wordpiece):
    assert _pieces(wordpiece, "wantx i") == ["[CLS]", "[UNK]", "i", "[SEP]"]
    assert _pieces(wordpiece, "un" + "a" * 99) == ["[CLS]", "[UNK]", "[SEP]"]
    assert _pieces(wordpiece, "un" + "a" * 98) == ["[CLS]", "un", *["##a"] * 98, "[SEP]"][:31] + [
        "[SEP]"
    ]


def test_accents_case_controls_and_signs(wordpiece):
    assert _pieces(wordpiece, "CAFÉ\tI'm\r\n") == ["[CLS]", "cafe", "i", "'", "m", "[SEP]"]
    assert _pieces(wordpiece, "ca\u0000f\u200be i中中") == [
        "[CLS]",
        "cafe",
        "i",
        "中",
        "中",
        "[SEP]",
    ]
    assert _pieces(wordpiece, "") == ["[CLS]", "[SEP]"]


def test_a_pair_is_cut_where_it_is_longer(wordpiece):
    whole = _pieces(wordpiece, "i m i", "want want", length=8)
    assert whole == ["[CLS]", "i", "m", "i", "[SEP]", "want", "want", "[SEP]"]
    cut = _pieces(wordpiece, "i m i m i", "want", length=7)
    assert cut == ["[CLS]", "i", "m", "i", "[SEP]", "want", "[SEP]"]
    for length in range(3, 12):
        assert len(wordpiece.encode("i m i m i", "want want", length=length)) <= length


def test_too_little_room_is_refused(wordpiece):
    with pytest.raises(UsageError, match="length: found 1 tokens, expected 2 or more"):
        wordpiece.encode("i", length=1)
    with pytest.raises(UsageError, match="length: found 2 tokens, expected 3 or more"):
        wordpiece.encode("i", "m", length=2)


def test_a_vocabulary_without_its_signs_is_refused(tmp_path):
    (tmp_path / "vocab.txt").write_text("[PAD]\n[UNK]\n[CLS]\n")
    with pytest.raises(ArtefactError, match=r"\[SEP\]': found nothing"):
        read_wordpiece(tmp_path / "vocab.txt")


@pytest.fixture(scope="module")
def published():
    """The published tokeniser and ours of its vocabulary."""
    tokenizers = pytest.importorskip("tokenizers")
    from models.networks.text_recipe import PACKAGE, published_folder

    pytest.importorskip(PACKAGE)
    folder = published_folder()
    theirs = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
    theirs.no_padding()
    return theirs, read_wordpiece(folder / "vocab.txt")


def test_made_up_text_gives_the_ids_of_the_published_tokeniser(published):
    theirs, ours = published
    signs = (
        "aZé ñüß中文한국語ⅷ½.,!?'\"-–—_$^`+<=>|~@#()[]{}"
        "\t\n\r\u00a0\u200b\u00ad\ufeff\u0301İıΣς😀ﬁ०"
    )
    rng = random.Random(7)
    words = ["the", "unaffable", "movie", "xyzzyq", "Ünïcode", "don't", "3.14", "[MASK]"]
    for _ in range(3000):
        made = []
        for _ in range(2):
            some = [rng.choice([*words, rng.choice(signs), " ", " "]) for _ in range(25)]
            made.append("".join(some).replace("[MASK]", "mask"))
        length = rng.randrange(3, 40)
        theirs.enable_truncation(length)
        pair = rng.random() < 0.5
        expected = theirs.encode(*(made if pair else made[:1])).ids
        assert ours.encode(made[0], made[1] if pair else None, length=length) == expected, made


@pytest.mark.slow
@pytest.mark.parametrize("name", TASKS)
def test_real_sentences_give_the_ids_of_the_published_tokeniser(published, name):
    theirs, ours = published
    root = data_directory()
    if root is None or not (root / "glue" / name).is_dir():
        pytest.skip(f"no {name}")
    theirs.enable_truncation(128)
    for part in PARTS if TASKS[name].has_test else ("train", "dev"):
        texts = glue(name, part).texts[:6000]
        pairs = [a if b is None else (a, b) for a, b in texts]
        expected = [one.ids for one in theirs.encode_batch(pairs)]
        assert [ours.encode(a, b, length=128) for a, b in texts] == expected
