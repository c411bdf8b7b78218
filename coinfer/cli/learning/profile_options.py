"""The options of `coinfer profile`: types, bounds and help, a name each."""

from pathlib import Path
from typing import Annotated

import typer

DATA_HELP = (
    "Labelled pictures: an npz (x uint8 NxHxWx3, y), a folder that holds a folder of pictures for "
    "each class, a CSV of paths and labels, MODULE:FUNCTION of a torch.utils.data.Dataset, or a "
    "folder of datasets' save_to_disk."
)
CLASSES_HELP = "File of its classes' names, one a line, in scores' order."
TRAIN_DATA_HELP = "More samples, as for --data, that train the heads and judge nothing."
HEAD_KIND_HELP = (
    "Kind of the exits' heads: linear, conv, deep, attention, token; of boxes grid, queries, "
    "linear; or auto: the kinds that fit are measured at every exit."
)
EPOCHS_HELP = "Passes over the samples that train the exits' heads."
MEAN_HELP = "R,G,B (of bgr B,G,R), or one number, subtracted from pixels of 0 to 1 (uint8 / 255)."
STD_HELP = "What is divided by after that, likewise (0.00392157: pixels of 0 to 255)."
ANSWERS_HELP = (
    "What it answers: class, labels, labels:THRESHOLD, boxes:QUERIES (with :softmax, :corners, "
    ":overlap0.5 behind it), vector or tensors; =NAME,NAME behind it: what is taken of a mapping."
)
JUDGE_HELP = (
    "How good an answer is: top-K, f1, map, cosine, closeness, or MODULE:FUNCTION of rows and "
    "labels."
)
CONFIDENCE_HELP = (
    "How sure an exit is: MODULE:FUNCTION of rows (N, V), a torch tensor, that gives (N,) within 0 "
    "and 1; it becomes part of the network. Not for one class."
)
"""What `coinfer init` takes, too."""


def _brought(said: str) -> str:
    """The same where only a model that is brought has the option."""
    return f"A model brought: {said[0].lower()}{said[1:]}"


Out = Annotated[Path, typer.Option(help="File to write to (JSON); a folder for a model brought.")]
Model = Annotated[
    str, typer.Option(help="A shipped name, a folder, or MODULE:FACTORY of a torch model.")
]
Reference = Annotated[
    str | None,
    typer.Option(help="Write a published reference instead: edgent-pi3 or edgent-pc."),
]
Reading = Annotated[str, typer.Option(help="Reference only: conv's x1 as 'maps' or 'elements'.")]
Executor = Annotated[str, typer.Option(help="torch or onnxruntime (a model brought: onnxruntime).")]
Threads = Annotated[int, typer.Option(help="Threads of one computation.")]
Repeats = Annotated[int, typer.Option(help="Timed runs of every layer.")]
Slowdown = Annotated[
    float, typer.Option(help="Emulate a device this many times slower; the profile says so.")
]
Grid = Annotated[
    int | None,
    typer.Option(help="Generated layers of each kind to fit the regression on; 0: none (24)."),
]
Seed = Annotated[int, typer.Option(min=0, help="Of inputs and generated layers.")]
Codecs = Annotated[
    str,
    typer.Option(help="Wire codecs, by commas (none; of a model brought: seven)."),
]
CodecSlowdown = Annotated[float | None, typer.Option(help="The same for codecs (as --slowdown).")]
Data = Annotated[Path | None, typer.Option(help=_brought(DATA_HELP))]
Side = Annotated[
    str,
    typer.Option(
        "--input",
        help="A model brought, without an npz, which has its size: HEIGHTxWIDTH that pictures are "
        "made to fit, or generated in. Of others: tokens:LENGTH:VOCABULARY[:PADDING], "
        "sound:SAMPLES:RATE_HZ, tensors:NAME=FP32[3x4],NAME=INT64[5].",
    ),
]
Classes = Annotated[Path | None, typer.Option(help=_brought(CLASSES_HELP))]
Exits = Annotated[
    int | None,
    typer.Option(
        min=0,
        max=16,
        help="A model brought: exits to put into it (five, or as many as it has places for).",
    ),
]
ExitAfter = Annotated[
    list[str] | None,
    typer.Option(
        help="A model brought: put an exit after the place of this name (of the table's column "
        "'after'); in the place of --exits. A wrong name lists all."
    ),
]
ExitAccuracy = Annotated[
    str,
    typer.Option(
        help="A model brought: as 0.9,0.95: put exits where a linear probe on the layer's pooled "
        "values first is right so often; in the place of --exits."
    ),
]
Placement = Annotated[
    str,
    typer.Option(
        help="Of those exits: linear (marks at i/(n+1) of the compute), pareto-marks (1 - 0.8^i), "
        "front (accuracy against latency) or front-memory."
    ),
]
MaxLatency = Annotated[
    str, typer.Option(help="A model brought: what an exit may take on the device, as 80ms.")
]
MaxDeviceMemory = Annotated[
    str, typer.Option(help="A model brought: what it may take of the device's memory, as 4MiB.")
]
TrainData = Annotated[Path | None, typer.Option(help=_brought(TRAIN_DATA_HELP))]
HeadKind = Annotated[str, typer.Option(help=HEAD_KIND_HELP)]
Distillation = Annotated[
    float,
    typer.Option(
        min=0.0,
        max=1.0,
        help="Share of the heads' loss that is their distance from the network's own answers.",
    ),
]
OwnBlocks = Annotated[
    int,
    typer.Option(
        min=0,
        max=8,
        help="Blocks before each exit that the exit has a trained copy of; the network's answers "
        "stay.",
    ),
]
Heads = Annotated[
    str, typer.Option(help="MODULE:FUNCTION of (shape, classes) that makes their heads.")
]
Epochs = Annotated[int, typer.Option(min=1, help=EPOCHS_HELP)]
JointEpochs = Annotated[int, typer.Option(min=0, help="Passes after those that train everything.")]
Mean = Annotated[str, typer.Option(help=f"A model brought: {MEAN_HELP}")]
Std = Annotated[str, typer.Option(help=_brought(STD_HELP))]
OnDevice = Annotated[
    bool,
    typer.Option(
        "--on-device",
        help="Measure a model's folder where it will run, without torch; OUT is a file, or the "
        "folder, whose device profile this then is.",
    ),
]
Json = Annotated[bool, typer.Option("--json", help="The profile as JSON.")]
Answers = Annotated[str, typer.Option(help=_brought(ANSWERS_HELP))]
Judge = Annotated[str, typer.Option(help=_brought(JUDGE_HELP))]
Confidence = Annotated[str, typer.Option(help=_brought(CONFIDENCE_HELP))]
