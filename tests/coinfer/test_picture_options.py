"""`--channels`, `--fit`, `--mean` and `--std`: what they make, and what is refused."""

import msgspec
import pytest
from typer.testing import CliRunner

from artefacts import UsageError
from coinfer.cli.app import app
from coinfer.cli.learning.begun import ModelAnswers
from coinfer.cli.learning.picture_options import PictureOptions, parse_fit
from models.facts.picture_fit import SQUASH, PictureFit
from models.facts.preprocessing import PictureInput


@pytest.mark.parametrize(
    ("text", "fit"),
    [
        ("squash", SQUASH),
        ("crop", PictureFit("crop", 0.875)),
        ("crop:0.95", PictureFit("crop", 0.95)),
        ("crop:1", PictureFit("crop", 1.0)),
        ("letterbox", PictureFit("letterbox", fill=114)),
        ("letterbox:0", PictureFit("letterbox", fill=0)),
    ],
)
def test_a_fit_is_read(text, fit):
    assert parse_fit(text) == fit


@pytest.mark.parametrize(
    "text",
    ["", "stretch", "squash:1", "crop:", "crop:0", "crop:1.5", "crop:nan", "crop:224",
     "letterbox:256", "letterbox:-1", "letterbox:x", "letterbox:1:2"],
)  # fmt: skip
def test_another_is_refused_in_one_line(text):
    with pytest.raises(UsageError, match=rf"^--fit: found '{text}', expected squash, crop, crop:"):
        parse_fit(text)


def test_they_make_what_a_card_says():
    assert PictureOptions().made() == PictureInput()
    assert PictureOptions(mean="0.5").made().mean == (0.5, 0.5, 0.5)
    grey = PictureOptions("0.13", "0.31", "grey", "letterbox:0").made()
    assert grey == PictureInput((0.13,), (0.31,), "grey", "letterbox", fill=0)
    assert PictureOptions(channels="grey").made() == PictureInput((0.0,), (1.0,), "grey")
    bgr = PictureOptions("0.1,0.2,0.3", "1", "bgr", "crop:0.9").made()
    assert bgr == PictureInput((0.1, 0.2, 0.3), (1.0,) * 3, "bgr", "crop", 0.9)
    for options in (PictureOptions(), PictureOptions("0.13", "0.31", "grey", "letterbox:0")):
        options.made().check((options.depth, 8, 8))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (PictureOptions(channels="yuv"), "--channels: found 'yuv', expected rgb, bgr, grey"),
        (PictureOptions(mean="0.1,0.2"), "--mean: found '0.1,0.2', expected three numbers"),
        (PictureOptions(mean="0.1,0.2,x"), "--mean: found '0.1,0.2,x', expected three numbers"),
        (PictureOptions(std="nan"), "--std: found 'nan', expected three numbers"),
        (PictureOptions(std="1,0,1"), "--std: found '1,0,1', expected numbers above zero"),
        (PictureOptions("0.1,0.2,0.3", channels="grey"), "--mean: found .*, expected one number"),
    ],
)
def test_what_means_nothing_is_one_line(options, said):
    with pytest.raises(UsageError, match=said):
        options.made()


def test_what_is_no_picture_has_no_channels():
    PictureOptions().refuse_beside("tokens")
    for options, named in (
        (PictureOptions(fit="crop"), "fit"), (PictureOptions(channels="grey"), "channels"),
        (PictureOptions(mean="0.5"), "mean"), (PictureOptions(std="0.5"), "std"),
    ):  # fmt: skip
        with pytest.raises(
            UsageError, match=rf"^--{named}: found it given for --input tokens, exp"
        ):
            options.refuse_beside("tokens")


@pytest.mark.parametrize("command", ["profile", "init"])
@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--fit", "stretch"), "--fit: found 'stretch', expected squash, crop"),
        (("--channels", "cmyk"), "--channels: found 'cmyk', expected rgb, bgr, grey"),
        (("--channels", "grey", "--mean", "1,2,3"), "--mean: found '1,2,3', expected one number"),
        (("--fit", "crop", "--input", "tokens:8:50"), "--fit: found it given for --input tokens"),
    ],
)
def test_a_mistake_is_said_before_anything_is_read(tmp_path, command, options, said):
    model = ("none_such:make",) if command == "init" else ("--model", "none_such:make")
    out = tmp_path / "out"
    where = () if "--input" in options else ("--input", "24x32")
    done = CliRunner().invoke(app, [command, *model, *options, *where, "--out", str(out)])
    assert isinstance(done.exception, UsageError), done.output
    assert str(done.exception).startswith(said)
    assert not out.exists()


def test_init_keeps_them_and_gives_them_on(tmp_path, monkeypatch):
    given = {}

    def profiled(*args, **more):
        given.update(more)
        raise UsageError("enough")

    monkeypatch.setattr("coinfer.cli.learning.models.profile", profiled)
    monkeypatch.chdir(tmp_path)
    options = ("--input", "24x32", "--channels", "bgr", "--fit", "letterbox:0")
    CliRunner().invoke(app, ["init", "none_such:make", *options, "--out", "out"])
    assert (given["channels"], given["fit"]) == ("bgr", "letterbox:0")
    # what an older one kept has neither
    network = {"model": "none_such:make", "input": "24x32", "mean": "0.5,0.5,0.5"}
    kept = msgspec.convert(network, ModelAnswers)
    assert kept.signature.picture() == PictureInput((0.5,) * 3)


@pytest.mark.parametrize("option", [("--fit", "crop"), ("--channels", "bgr"), ("--std", "2")])
def test_a_network_of_ours_has_them_in_its_card(tmp_path, option):
    out = tmp_path / "profile.json"
    done = CliRunner().invoke(app, ["profile", "--model", "alexnet", *option, "--out", str(out)])
    assert isinstance(done.exception, UsageError), done.output
    assert f"{option[0]}: found it given for a network of ours, expected" in str(done.exception)


def test_usual_pictures_are_written_without_what_older_versions_do_not_know():
    assert set(msgspec.to_builtins(PictureOptions("0.4,0.5,0.4", "0.2").made())) == {
        "kind", "mean", "std",
    }  # fmt: skip
