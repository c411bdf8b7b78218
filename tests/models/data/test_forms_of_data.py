"""Labelled pictures in the forms that people have: lists, data sets in memory and on disk."""

import sys
import textwrap

import numpy as np
import pytest
from PIL import Image

from artefacts import ArtefactError, DependencyError, UsageError
from models.data.own_pictures import has_own_size, read_pictures


def grey(path, value, size=(6, 4)):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, (value,) * 3).save(path)


@pytest.fixture
def listed(tmp_path):
    for k, name in enumerate(("a", "b", "c")):
        grey(tmp_path / "shots" / f"{name}.png", 10 * k)
    return tmp_path / "list.csv"


@pytest.fixture
def module(tmp_path, monkeypatch):
    """Writes the module `sets` into the folder that commands are started in."""

    def write(text):
        (tmp_path / "sets.py").write_text(textwrap.dedent(text))

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    monkeypatch.delitem(sys.modules, "sets", raising=False)
    yield write
    sys.modules.pop("sets", None)


def test_a_list_without_header(listed):
    listed.write_text("shots/c.png,dog\nshots/a.png,cat\n\nshots/b.png, dog\n")
    found = read_pictures(listed)
    assert found.classes == ("cat", "dog")
    assert found.x.shape == (3, 4, 6, 3)
    assert found.x[:, 0, 0, 0].tolist() == [20, 0, 10]
    assert found.y.tolist() == [1, 0, 1]
    assert read_pictures(listed, (2, 2)).x.shape == (3, 2, 2, 3)
    assert read_pictures(listed, classes=("dog", "owl", "cat")).y.tolist() == [0, 2, 0]


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_a_list_with_header(listed, delimiter):
    rows = [("id_of_row", "Label", "path"), ("7", "3", "shots/a.png"), ("8", "0", "shots/b.png")]
    listed.write_text("\ufeff" + "\n".join(delimiter.join(row) for row in rows))
    found = read_pictures(listed)
    assert (found.y.tolist(), found.classes) == ([3, 0], ())
    assert found.x[:, 0, 0, 0].tolist() == [0, 10]


def test_digits_are_numbers_unless_they_are_names(listed):
    listed.write_text("shots/a.png,1\nshots/b.png,0\n")
    assert read_pictures(listed).y.tolist() == [1, 0]
    assert read_pictures(listed, classes=("1", "0")).y.tolist() == [0, 1]
    with pytest.raises(ArtefactError, match=r"list\.csv, line 1: found label 1, expected a class"):
        read_pictures(listed, classes=("cat",))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("shots/a.png,cat\nshots/none.png,cat\n", "line 2: found no file '.*shots/none.png'"),
        ("shots/a.png,cat\nshots/b.png\n", "line 2: found 'shots/b.png', expected a path and a"),
        ("shots/a.png,cat,3\n", "line 1: found 3 columns .*, expected a path and a label, or a"),
        ("path,label\n", "found no rows"),
        ("shots/a.png,\n", "line 1: found an empty label, expected the name of a class"),
    ],
)
def test_what_a_list_lacks_is_named_with_its_row(listed, text, said):
    listed.write_text(text)
    with pytest.raises(ArtefactError, match=said):
        read_pictures(listed, classes=("cat", "dog") if ",\n" in text else ())


def test_a_damaged_picture_of_a_list_is_named_with_row_and_path(listed):
    (listed.parent / "shots" / "b.png").write_bytes(b"no picture")
    listed.write_text("path,label\nshots/a.png,cat\nshots/b.png,dog\n")
    with pytest.raises(ArtefactError, match=r"list\.csv, line 3: found '.*b\.png', no picture"):
        read_pictures(listed, (4, 4))


def test_a_torch_dataset(module):
    module("""
        import torch
        from torch.utils.data import Dataset
        from PIL import Image

        class Shots(Dataset):
            classes = ["cat", "dog"]

            def __len__(self):
                return 4

            def __getitem__(self, n):
                if n == 0:
                    return Image.new("RGB", (6, 4), (30, 30, 30)), 1
                if n == 1:
                    return torch.full((3, 4, 6), 0.2), torch.tensor(0)
                if n == 2:
                    return torch.full((4, 6, 3), 9, dtype=torch.uint8), "dog"
                return torch.full((1, 4, 6), 1.0), 0

        def make():
            return Shots()

        class Numbers(Shots):
            def __getitem__(self, n):
                picture, label = super().__getitem__(n)
                return picture, 1 if label == "dog" else label

        class Odd(Shots):
            def __getitem__(self, n):
                if n == 2:
                    return torch.full((3, 4, 6), 2.5), 0
                return torch.zeros(3, 4, 6), 0

        class Late(Shots):
            def __getitem__(self, n):
                if n == 3:
                    raise OSError("disk gone")
                return torch.zeros(3, 4, 6), 0

        def bad():
            return 3
    """)
    from pathlib import Path

    found = read_pictures(Path("sets:Numbers"))
    assert found.x[:, 0, 0, 0].tolist() == [30, 51, 9, 255]
    assert (found.y.tolist(), found.classes) == ([1, 0, 1, 0], ("cat", "dog"))
    assert read_pictures(Path("sets:Numbers"), (8, 8)).x.shape == (4, 8, 8, 3)
    # the set's numbers are looked up in the order of the scores
    assert read_pictures(Path("sets:Numbers"), classes=("dog", "cat")).y.tolist() == [0, 1, 0, 1]
    with pytest.raises(UsageError, match=r"'sets:Odd', item 2: found ValueError: floats from 2\.5"):
        read_pictures(Path("sets:Odd"))
    with pytest.raises(UsageError, match="item 3: found OSError: disk gone, expected a picture"):
        read_pictures(Path("sets:Late"))
    with pytest.raises(UsageError, match="'sets:bad': found TypeError.*expected a function that"):
        read_pictures(Path("sets:bad"))
    with pytest.raises(UsageError, match="found no 'none' in 'sets'"):
        read_pictures(Path("sets:none"))


def test_only_an_npz_has_its_own_size(tmp_path):
    (tmp_path / "a.npz").touch()
    (tmp_path / "a.csv").touch()
    assert has_own_size(tmp_path / "a.npz")
    assert not has_own_size(tmp_path / "a.csv")
    assert not has_own_size(tmp_path)
    from pathlib import Path

    assert not has_own_size(Path("sets:make"))
    assert has_own_size(Path("absent.npz"))


def saved_set(folder, values=(10, 20, 30, 40)):
    datasets = pytest.importorskip("datasets", reason="the package datasets is not installed")
    rows = {
        "image": [Image.new("RGB", (6, 4), (v,) * 3) for v in values],
        "label": [k % 2 for k in range(len(values))],
    }
    features = datasets.Features(
        {"image": datasets.Image(), "label": datasets.ClassLabel(names=["cat", "dog"])}
    )
    made = datasets.Dataset.from_dict(rows, features=features)
    return datasets, made


@pytest.mark.filterwarnings("default")
def test_a_saved_set_of_the_package_datasets(tmp_path):
    datasets, made = saved_set(tmp_path)
    made.save_to_disk(str(tmp_path / "one"))
    found = read_pictures(tmp_path / "one")
    assert (found.y.tolist(), found.classes) == ([0, 1, 0, 1], ("cat", "dog"))
    assert found.x[:, 0, 0, 0].tolist() == [10, 20, 30, 40]
    assert read_pictures(tmp_path / "one", (8, 8), ("dog", "cat")).y.tolist() == [1, 0, 1, 0]
    datasets.DatasetDict({"train": made, "test": made}).save_to_disk(str(tmp_path / "two"))
    with pytest.raises(ArtefactError, match=r"found 2 splits, expected one of them \(.*two/test"):
        read_pictures(tmp_path / "two")
    assert len(read_pictures(tmp_path / "two" / "test")) == 4
    bad = datasets.Dataset.from_dict({"words": ["a"]})
    bad.save_to_disk(str(tmp_path / "bad"))
    with pytest.raises(ArtefactError, match="found columns words, expected one of type Image"):
        read_pictures(tmp_path / "bad")


def test_a_saved_set_without_its_package_is_one_line(tmp_path, monkeypatch):
    (tmp_path / "one").mkdir()
    (tmp_path / "one" / "dataset_info.json").write_text("{}")
    (tmp_path / "one" / "data-00000-of-00001.arrow").write_bytes(b"")
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(DependencyError, match=r"pip install datasets"):
        read_pictures(tmp_path / "one")


def test_names_of_a_listed_class_are_in_the_order_of_the_scores(listed):
    listed.write_text("shots/a.png,owl\n")
    with pytest.raises(ArtefactError, match=r"line 1: found label 'owl', expected the name of a"):
        read_pictures(listed, classes=("cat", "dog"))
    assert np.array_equal(read_pictures(listed, classes=("cat", "owl")).y, [1])


def test_names_of_the_model_count_where_the_pictures_are_among_them(listed):
    listed.write_text("shots/a.png,dog\nshots/b.png,cat\n")
    found = read_pictures(listed, likely=("owl", "dog", "cat"))
    assert (found.y.tolist(), found.classes) == ([1, 2], ("owl", "dog", "cat"))
    found = read_pictures(listed, likely=("n01", "n02"))
    assert (found.y.tolist(), found.classes) == ([1, 0], ("cat", "dog"))
    for name in ("dog", "cat"):
        grey(listed.parent / "by_class" / name / "1.png", 5)
    folder = listed.parent / "by_class"
    assert read_pictures(folder, likely=("dog", "owl", "cat")).y.tolist() == [2, 0]
    assert read_pictures(folder, likely=("n01",)).classes == ("cat", "dog")


@pytest.mark.parametrize("text", ['shots/a.png,"' + "x" * 140_000, "shots/a.png," + "x" * 140_000])
def test_a_field_that_is_no_label_is_one_line(listed, text):
    listed.write_text(text + "\n")
    with pytest.raises(ArtefactError) as error:
        read_pictures(listed)
    assert "field larger than field limit" in str(error.value)
    assert "list.csv" in str(error.value)


def test_more_digits_than_python_reads_are_a_name(listed):
    long = "9" * 5000
    listed.write_text(f"shots/a.png,{long}\nshots/b.png,{long}\n")
    assert read_pictures(listed).classes == (long,)
    with pytest.raises(ArtefactError, match="expected the name of a class"):
        read_pictures(listed, classes=("cat", "dog"))
