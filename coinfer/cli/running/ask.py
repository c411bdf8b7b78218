"""`coinfer ask`: samples to a device daemon, and what it answers; boxes drawn onto pictures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from artefacts.errors import UsageError
from artefacts.printing import printable
from coinfer.cli.console import console, emit_json
from coinfer.cli.options import DAEMON, DAEMON_HELP

if TYPE_CHECKING:
    from PIL import Image

    from controller.daemon.client import Client
    from controller.daemon.client_messages import Inference, Sample

MOST_BYTES = 2**26
"""Of a sample's file."""
QUALITY = 95
"""Of the JPEG that a picture of another form is sent as."""
SHOWN_VALUES = 8
ENDINGS = {
    ".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".avif", ".wav", ".npz",
}  # fmt: skip
"""Of the files in a folder that are samples."""


def ask(
    samples: Annotated[
        list[str],
        typer.Argument(
            metavar="SAMPLE...",
            help="Pictures, recordings (.wav), arrays by name (.npz), or folders of them; with "
            "--text the texts themselves.",
        ),
    ],
    device: Annotated[str, typer.Option(help=DAEMON_HELP)] = DAEMON,
    text: Annotated[bool, typer.Option("--text", help="The samples are the texts.")] = False,
    deadline_ms: Annotated[
        float | None, typer.Option(help="By when (the daemon's own deadline).")
    ] = None,
    draw: Annotated[
        Path | None,
        typer.Option(
            help="Write the picture to this file, with the boxes that were found; of several "
            "samples a folder."
        ),
    ] = None,
    json: Annotated[
        bool,
        typer.Option(
            "--json",
            help="The answer as JSON; of several samples a list, each with its `sample`, "
            "and with `error` where there is no answer.",
        ),
    ] = False,
) -> None:
    """Ask a device daemon for the answers to samples, one after the other.

    Of several each is answered on a line of its own. One that gets no answer says why on its line,
    the others are asked all the same, and the command ends with 1.
    """
    from controller.daemon.client import Client

    named = list(samples) if text else listed(samples)
    one = len(samples) == 1 and len(named) == 1 and named == list(samples)
    drawn = None if draw is None else drawn_files(draw, named, one=one)
    with Client(device) as client:
        asking = _Asking(client, device, None if deadline_ms is None else 1e-3 * deadline_ms, text)
        if one:
            _say_one(asking, named[0], None if drawn is None else drawn[0], json=json)
        elif not _say_each(asking, named, drawn, json=json):
            raise typer.Exit(1)


@dataclass(frozen=True, slots=True)
class _Asking:
    """Whom is asked, and how."""

    client: Client
    device: str
    deadline_s: float | None
    text: bool

    def answer(self, sample: str, draw: Path | None) -> Inference:
        """The answer to a sample, drawn onto its picture where that is wanted."""
        from controller.daemon.client import DeviceError

        given, picture = (sample, None) if self.text else read_sample(Path(sample))
        if draw is not None and picture is None:
            raise UsageError(f"--draw: found '{sample}', expected a picture's file to draw onto")
        try:
            answer = self.client.infer(given, deadline_s=self.deadline_s)
        except DeviceError as error:
            said = f"{self.device}: {error}"
            raise (_NobodyThere if error.status == 0 else UsageError)(said) from None
        if draw is not None and picture is not None:
            _drawn(draw, picture, answer)
        return answer


class _NobodyThere(UsageError):
    """No daemon answers: there is nobody to ask for the samples that are left."""


def _say_one(asking: _Asking, sample: str, draw: Path | None, *, json: bool) -> None:
    answer = asking.answer(sample, draw)
    if json:
        emit_json(_plain(answer))
        return
    for line in said(answer):
        print(printable(line))  # a class's name may hold the end of a line
    if draw is not None:
        console.print(f"drawn to {draw}")


def _say_each(
    asking: _Asking, samples: Sequence[str], draw: Sequence[Path] | None, *, json: bool
) -> bool:
    """A line for each sample, or one JSON document; whether all were answered."""
    from artefacts import CoinferError

    found: list[dict[str, Any]] = []
    for k, sample in enumerate(samples):
        try:
            answer = asking.answer(sample, None if draw is None else draw[k])
            found.append({"sample": sample} | _plain(answer))
            line = f"{sample}: {'; '.join(said(answer))}"
        except _NobodyThere:
            if json:
                emit_json(found)
            raise
        except CoinferError as error:
            found.append({"sample": sample, "error": str(error)})
            line = str(error) if sample in str(error) else f"{sample}: {error}"
        if not json:
            print(printable(line), flush=True)  # whoever reads along sees each as it comes
    if json:
        emit_json(found)
    return not any("error" in one for one in found)


def listed(samples: Sequence[str]) -> list[str]:
    """The files that are named, and those of the folders that are, by name.

    Of a folder those whose names end as a picture's, a recording's or an archive of arrays' does.
    """
    from artefacts import ArtefactError

    found: list[str] = []
    for sample in samples:
        path = Path(sample)
        if not path.is_dir():
            found.append(sample)
            continue
        try:
            inside = sorted(p for p in path.iterdir() if p.suffix.lower() in ENDINGS)
        except OSError as error:
            raise ArtefactError(
                path, found=(error.strerror or str(error)).lower(), expected="a readable folder"
            ) from None
        if not inside:
            raise ArtefactError(
                path, found="a folder without samples", expected="pictures, .wav or .npz in it"
            )
        found += map(str, inside)
    return found


def drawn_files(draw: Path, samples: Sequence[str], *, one: bool) -> list[Path]:
    """The file that each sample is drawn to: `draw`, or one of its name in the folder `draw`.

    `one`: there is but one sample, whose file `draw` may be. Refuses to write over a sample.
    """
    from artefacts import ready_folder

    if one and not draw.is_dir():
        return _beside(samples, [draw])
    if draw.is_file():
        raise UsageError(f"--draw: found the file '{draw}', expected a folder for several samples")
    names = [Path(sample).name for sample in samples]
    twice = [name for k, name in enumerate(names) if name in names[:k]]
    if twice:
        raise UsageError(
            f"--draw: found two samples called '{twice[0]}', expected names that differ (each is "
            f"drawn to a file of its name in '{draw}')"
        )
    found = _beside(samples, [draw / name for name in names])
    ready_folder(draw)
    return found


def _beside(samples: Sequence[str], drawn: list[Path]) -> list[Path]:
    """What is `drawn`, each to a file; refused where that is the sample itself."""
    for sample, file in zip(samples, drawn, strict=True):
        if file.resolve() == Path(sample).resolve():
            raise UsageError(
                f"--draw: found '{file}', expected another place (the sample would be lost)"
            )
    return drawn


def read_sample(path: Path) -> tuple[Sample, Image.Image | None]:
    """What is sent of a file, and the picture that it is, upright (None: it is none).

    A JPEG is sent as it is; a picture of another form as a JPEG of quality `QUALITY`.
    """
    import io

    from PIL import Image, ImageOps

    from artefacts import ArtefactError, read_bytes
    from artefacts.arrays import read_npz

    if path.suffix.lower() == ".npz":
        return dict(read_npz(path, "an npz with the network's arrays")), None
    data = read_bytes(path, MOST_BYTES, "a sample")
    if data[:4] == b"RIFF" and data[8:12] == b"WAVE":
        return data, None
    try:
        with Image.open(io.BytesIO(data)) as opened:
            jpeg = opened.format == "JPEG"
            picture = ImageOps.exif_transpose(opened).convert("RGB")
        if jpeg:
            return data, picture
        written = io.BytesIO()
        picture.save(written, "JPEG", quality=QUALITY, subsampling=0)
    except Exception:  # Pillow's readers raise a dozen kinds for a damaged file
        raise ArtefactError(
            path, found="what is no picture", expected="a picture, a .wav or an .npz"
        ) from None
    return written.getvalue(), picture


def _drawn(path: Path, picture: Image.Image, answer: Inference) -> None:
    """Write the picture with the answer's boxes, in the form that the file's name says."""
    import io

    import numpy as np
    from PIL import Image

    from artefacts import atomic_write
    from models.data.box_pictures import draw_boxes

    if "boxes" not in answer.outputs:
        found = ", ".join(answer.outputs) or "a class"
        raise UsageError(f"--draw: found an answer of {found}, expected boxes")
    form = Image.registered_extensions().get(path.suffix.lower())
    if form is None or form not in Image.SAVE:
        raise UsageError(f"--draw: found '{path}', expected a picture's file, as found.png")
    seen = answer.outputs
    boxes = np.asarray(seen["boxes"], dtype=np.float32).reshape(-1, 4)
    drawn = draw_boxes(
        picture, boxes, seen["labels"].tolist(), seen["scores"].tolist(), seen.get("names", ())
    )
    written = io.BytesIO()
    drawn.save(written, form)
    with atomic_write(path, "wb") as stream:
        stream.write(written.getvalue())


def said(answer: Inference) -> list[str]:
    """An answer in lines: what it is, and where it comes from."""
    seen, lines = answer.outputs, []
    if answer.label is not None:
        name = f" ({answer.class_name})" if answer.class_name else ""
        lines.append(f"class {answer.label}{name}")
    elif "scores" in seen and "labels" in seen:
        lines += _found(seen) or [_nothing(answer)]
    else:
        lines += [f"{name}: {_short(values)}" for name, values in seen.items()]
    # without a box it is 1 or near it, for gates to end on: no reader takes that for a finding
    empty = "boxes" in seen and not len(seen["scores"])
    sure = "" if empty else f" confidence {answer.confidence:.3f},"
    lines.append(
        f"exit {answer.exit} on the {answer.where},{sure} {1e3 * answer.latency_s:.1f} ms: "
        f"{answer.plan}"
    )
    return lines


def _nothing(answer: Inference) -> str:
    """What is said where no box or label is above the threshold."""
    if answer.best_score is None:
        return "nothing found"
    return f"nothing found (the most likely box has {100 * answer.best_score:.1f} %)"


def _found(seen: Mapping[str, Any]) -> list[str]:
    """A line for each box or label."""
    import numpy as np

    labels, scores, boxes = np.asarray(seen["labels"]), np.asarray(seen["scores"]), None
    if "boxes" in seen:
        boxes = np.asarray(seen["boxes"])
    elif labels.dtype == np.uint8:  # of every label whether it is given
        scores, labels = scores[labels > 0], np.flatnonzero(labels)
    names, lines = seen.get("names"), []
    for k, (label, score) in enumerate(zip(labels, scores, strict=True)):
        where = "" if boxes is None else " at " + " ".join(f"{v:.3f}" for v in boxes[k].tolist())
        what = names[k] if names and names[k] else f"class {label}"
        lines.append(f"{what}, {100 * float(score):.1f} %{where}")
    return lines


def _short(values: Any) -> str:
    import numpy as np

    array = np.asarray(values)
    few = " ".join(str(v) for v in array.ravel()[:SHOWN_VALUES])
    more = " ..." if array.size > SHOWN_VALUES else ""
    return f"{array.dtype} {array.shape}: {few}{more}"


def _plain(answer: Inference) -> dict[str, Any]:
    outputs = {
        name: values.tolist() if hasattr(values, "tolist") else values
        for name, values in answer.outputs.items()
    }
    return {
        "label": answer.label, "class": answer.class_name, "confidence": answer.confidence,
        "exit": answer.exit, "where": answer.where, "plan": answer.plan,
        "latency_ms": 1e3 * answer.latency_s, "outputs": outputs,
    } | ({} if answer.best_score is None else {"best_score": answer.best_score})  # fmt: skip
