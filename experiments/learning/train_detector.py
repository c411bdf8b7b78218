"""`python -m experiments.learning.train_detector`: a small detector, trained on drawn shapes."""

from __future__ import annotations

import io
import json
import sys
import time
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from artefacts import CoinferError, atomic_write, ready_folder, write_json
from experiments.arguments import LineParser, count
from models.data.shapes import SHAPES, drawn_shapes
from models.networks.detector_training import DetectorArgs, precision, train_detector
from models.networks.shape_detector import SIDE
from models.networks.training import EpochReport

SAMPLES = 1000
"""Pictures that are left for `coinfer profile`: half of them train exits, half judge."""
FRAME_SIDE = 288
"""Of a picture to ask a daemon with, in pixels."""
TEST = 500
"""Pictures that judge the detector at the end, at most."""
MODULE = '''"""The trained detector, as `coinfer profile --model detector:detector` takes it."""

from pathlib import Path

from models.networks.detector_training import load_detector


def detector():
    return load_detector(Path(__file__).parent, width={width}, depth={depth})
'''


def write_for_profile(folder: Path, args: DetectorArgs, samples: int = SAMPLES) -> None:
    """Leave what `coinfer profile` takes in a folder (a module, pictures with boxes, class names),
    and a picture to ask a daemon with.

    `args` are those of the training; `samples` pictures are drawn that nothing was trained on.
    """
    with atomic_write(folder / "detector.py") as stream:
        stream.write(MODULE.format(width=args.width, depth=args.depth))
    with atomic_write(folder / "classes.txt") as stream:
        stream.write("".join(f"{name}\n" for name in SHAPES))
    drawn = drawn_shapes(samples, np.random.default_rng([args.seed, 4]), SIDE)
    with atomic_write(folder / "shapes.npz", "wb") as stream:
        np.savez_compressed(stream, x=drawn.x, y=drawn.y)
    frame = drawn_shapes(1, np.random.default_rng([args.seed, 6]), FRAME_SIDE).x[0]
    written = io.BytesIO()
    Image.fromarray(frame).save(written, "JPEG", quality=92)
    with atomic_write(folder / "frame.jpg", "wb") as stream:
        stream.write(written.getvalue())


def main(argv: list[str] | None = None) -> int:
    """The command; prints what was trained and its precision as JSON."""
    args = DetectorArgs()
    parser = LineParser(
        prog="python -m experiments.learning.train_detector",
        description="Trains a small one-stage detector on drawn circles, squares and triangles; "
        "continues from OUT/checkpoint.pt.",
    )
    parser.add_argument("--out", type=Path, required=True, help="folder for checkpoint and weights")
    parser.add_argument("--epochs", type=count, default=args.epochs, help=f"({args.epochs})")
    parser.add_argument("--pictures", type=count, default=args.pictures, help=f"({args.pictures})")
    parser.add_argument("--samples", type=count, default=SAMPLES, help=f"for profile ({SAMPLES})")
    parser.add_argument("--width", type=count, default=args.width, help="of the network's maps")
    parser.add_argument("--depth", type=count, default=args.depth, help="blocks of the network")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=count, default=1, help="of torch (1)")
    given = parser.parse_args(argv)
    torch.set_num_threads(given.threads)
    began_s = time.monotonic()

    def said(report: EpochReport) -> None:
        print(
            f"epoch {report.epoch}/{report.epochs}: loss {report.loss:.3f}, mean average precision "
            f"{100 * report.accuracies[0]:.1f} %, {time.monotonic() - began_s:.0f} s",
            file=sys.stderr,
            flush=True,
        )

    try:
        args = DetectorArgs(
            epochs=given.epochs, pictures=given.pictures, width=given.width, depth=given.depth,
            seed=given.seed, held=min(args.held, given.pictures),
        )  # fmt: skip
        ready_folder(given.out)
        network = train_detector(args, given.out, said)
        write_for_profile(given.out, args, given.samples)
    except CoinferError as error:
        parser.error(str(error))
    except KeyboardInterrupt:
        parser.exit(130, f"interrupted: the same command goes on from {given.out}\n")
    test = drawn_shapes(min(TEST, given.samples), np.random.default_rng([given.seed, 5]), SIDE)
    found = precision(network, test)
    made = {
        "weights": sum(p.numel() for p in network.parameters()),
        "test_pictures": len(test),
        "mean_average_precision": round(float(found.mean()), 4),
        "standard_error": round(float(found.std() / len(found) ** 0.5), 4),
        "seconds": round(time.monotonic() - began_s, 1),
        "processor_seconds": round(time.process_time(), 1),
    }
    write_json(given.out / "training.json", made)
    print(json.dumps(made, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
