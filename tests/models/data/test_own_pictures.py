"""A user's labelled pictures: a file, or folders by class; whatever does not fit is named."""

import numpy as np
import pytest
from PIL import Image

from artefacts import ArtefactError, UsageError
from models.data.datasets import judging_half
from models.data.own_pictures import read_class_names, read_pictures


def folder_of(path, sizes=((16, 12),), names=("cat", "dog"), count=3):
    """`count` plain pictures a class, whose grey says which they are."""
    for k, name in enumerate(names):
        (path / name).mkdir(parents=True)
        for n in range(count):
            width, height = sizes[n % len(sizes)]
            grey = Image.new("RGB", (width, height), (50 * k + 10 * n,) * 3)
            grey.save(path / name / f"{n}.png")
    return path


def test_a_folder_of_pictures_by_class(tmp_path):
    found = read_pictures(folder_of(tmp_path / "set"))
    assert found.classes == ("cat", "dog")
    assert found.x.shape == (6, 12, 16, 3)
    assert found.x[:, 0, 0, 0].tolist() == [0, 10, 20, 50, 60, 70]
    assert found.y.tolist() == [0, 0, 0, 1, 1, 1]
    assert found.take(np.array([5, 0])).classes == ("cat", "dog")


def test_pictures_of_several_sizes_are_squashed_to_one_that_is_given(tmp_path):
    path = folder_of(tmp_path / "set", sizes=((16, 12), (40, 30)))
    with pytest.raises(UsageError, match=r"16 x 12 .* 40 x 30 .*expected one size, or --input"):
        read_pictures(path)
    assert read_pictures(path, (8, 10)).x.shape == (6, 8, 10, 3)


def test_a_picture_that_was_taken_sideways_stands_upright(tmp_path):
    (tmp_path / "set" / "cat").mkdir(parents=True)
    lying = Image.new("RGB", (16, 8))
    lying.paste((250, 250, 250), (0, 0, 8, 8))  # bright on the left
    exif = Image.Exif()
    exif[0x0112] = 6  # turned clockwise, the left is the top
    lying.save(tmp_path / "set" / "cat" / "a.jpg", exif=exif)
    [picture] = read_pictures(tmp_path / "set").x
    assert picture.shape == (16, 8, 3)
    assert picture[2].min() > 200
    assert picture[-3].max() < 50


def test_names_say_which_class_a_folder_is(tmp_path):
    path = folder_of(tmp_path / "set")
    found = read_pictures(path, classes=("dog", "bird", "cat"))
    assert found.classes == ("dog", "bird", "cat")
    assert found.y.tolist() == [2, 2, 2, 0, 0, 0]
    with pytest.raises(
        ArtefactError, match="a folder of the name 'dog', expected the name of a"
    ) as e:
        read_pictures(path, classes=("cat", "bird"))
    assert str(e.value).endswith("(cat, bird)")
    with pytest.raises(ArtefactError, match=r"\(cat, b, c, d, e, …\)"):
        read_pictures(path, classes=("cat", "b", "c", "d", "e", "f"))


def test_what_is_no_picture_is_named(tmp_path):
    path = folder_of(tmp_path / "set")
    (path / "dog" / "1.png").write_bytes(b"no picture")
    with pytest.raises(ArtefactError, match=r"dog/1\.png: found no picture that can be read"):
        read_pictures(path, (8, 8))
    (path / "dog" / "1.png").write_bytes(b"")
    with pytest.raises(ArtefactError, match="found no picture that can be read .an empty file"):
        read_pictures(path, (8, 8))
    (path / "dog" / "1.png").unlink()
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3)).astype(np.uint8)
    for name in ("3.jpg", "3.png"):
        cut = path / "dog" / name
        Image.fromarray(noise).save(cut)
        cut.write_bytes(cut.read_bytes()[:900])
        with pytest.raises(ArtefactError, match=rf"{name}: found no picture .*truncated: its end"):
            read_pictures(path, (8, 8))
        cut.unlink()
    (path / "empty").mkdir()
    with pytest.raises(ArtefactError, match="empty: found no pictures"):
        read_pictures(path)
    (tmp_path / "bare").mkdir()
    with pytest.raises(ArtefactError, match="bare: found no folders, expected a folder of"):
        read_pictures(tmp_path / "bare")


def test_names_of_classes_stand_in_a_file(tmp_path):
    path = tmp_path / "names.txt"
    path.write_text("dog\nsea lion \ncat\n\n")
    assert read_class_names(path) == ("dog", "sea lion", "cat")
    path.write_text("dog\n\ncat\n")
    with pytest.raises(ArtefactError, match=r"names\.txt, line 2: found an empty line"):
        read_class_names(path)
    path.write_text("dog\ncat\ndog\n")
    with pytest.raises(ArtefactError, match="line 3: found 'dog' again"):
        read_class_names(path)
    path.write_text("")
    with pytest.raises(ArtefactError, match="found no names"):
        read_class_names(path)


def test_every_picture_is_in_one_half(tmp_path):
    found = read_pictures(folder_of(tmp_path / "set", count=5))
    one, other = judging_half(found, 3)
    assert sorted([*one, *other]) == list(range(10))
    assert judging_half(found, 3)[1].tolist() == other.tolist()
    assert judging_half(found, 4)[1].tolist() != other.tolist()


def test_pictures_of_other_answers_have_labels_of_any_form_or_none(tmp_path):
    x, boxes = np.zeros((4, 8, 8, 3), np.uint8), np.zeros((4, 2, 5), np.float32)
    np.savez(tmp_path / "boxes.npz", x=x, y=boxes)
    np.savez(tmp_path / "bare.npz", x=x)
    np.savez(tmp_path / "few.npz", x=x, y=boxes[:3])
    assert read_pictures(tmp_path / "boxes.npz").y.shape == (4, 2, 5)
    assert not read_pictures(tmp_path / "bare.npz").y.size
    with pytest.raises(
        ArtefactError, match=r"field 'y': found float32 \(3, 2, 5\), expected labels"
    ):
        read_pictures(tmp_path / "few.npz")


def test_an_npz_of_other_arrays_says_which_it_has(tmp_path):
    np.savez(tmp_path / "odd.npz", images=np.zeros((2, 4, 4, 3), np.uint8), labels=np.zeros(2))
    with pytest.raises(ArtefactError, match="found arrays images, labels, expected an npz with"):
        read_pictures(tmp_path / "odd.npz")
