"""`coinfer ask`: one sample to a device daemon, and what it answers; boxes drawn onto a picture."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from artefacts.printing import printable
from coinfer.cli.console import console, emit_json
from coinfer.cli.options import DAEMON, DAEMON_HELP

if TYPE_CHECKING:
    from PIL import Image

    from controller.daemon.client_messages import Inference, Sample

MOST_BYTES = 2**26
"""Of a sample's file."""
QUALITY = 95
"""Of the JPEG that a picture of another form is sent as."""
SHOWN_VALUES = 8


def ask(
    sample: Annotated[
        str,
        typer.Argument(
            help="A picture, a recording (.wav), arrays by name (.npz); with --text the text "
            "itself."
        ),
    ],
    device: Annotated[str, typer.Option(help=DAEMON_HELP)] = DAEMON,
    text: Annotated[bool, typer.Option("--text", help="The sample is the text itself.")] = False,
    deadline_ms: Annotated[
        float | None, typer.Option(help="By when (the daemon's own deadline).")
    ] = None,
    draw: Annotated[
        Path | None,
        typer.Option(help="Write the picture to this file, with the boxes that were found."),
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="The answer as JSON.")] = False,
) -> None:
    """Ask a device daemon for the answer to one sample."""
    from artefacts import UsageError
    from controller.daemon.client import Client, DeviceError

    path = Path(sample)
    given, picture = (sample, None) if text else read_sample(path)
    if draw is not None and picture is None:
        raise UsageError(f"--draw: found '{sample}', expected a picture's file to draw onto")
    with Client(device) as client:
        try:
            answer = client.infer(
                given, deadline_s=None if deadline_ms is None else 1e-3 * deadline_ms
            )
        except DeviceError as error:
            raise UsageError(f"{device}: {error}") from None
    if draw is not None and picture is not None:
        _drawn(draw, picture, answer)
    if json:
        emit_json(_plain(answer))
        return
    for line in said(answer):
        console.print(printable(line))  # a class's name may hold the end of a line
    if draw is not None:
        console.print(f"drawn to {draw}")


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

    from artefacts import UsageError, atomic_write
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
        lines += _found(seen) or ["nothing found"]
    else:
        lines += [f"{name}: {_short(values)}" for name, values in seen.items()]
    lines.append(
        f"exit {answer.exit} on the {answer.where}, confidence {answer.confidence:.3f}, "
        f"{1e3 * answer.latency_s:.1f} ms: {answer.plan}"
    )
    return lines


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
    }  # fmt: skip
