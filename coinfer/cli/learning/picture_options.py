"""The options that say what a picture becomes for a network that is brought."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, cast

import typer

if TYPE_CHECKING:
    from models.facts.picture_fit import FitKind, PictureFit
    from models.facts.preprocessing import Channels, PictureInput

NO_MEAN, NO_STD = "0,0,0", "1,1,1"
RGB, SQUASH = "rgb", "squash"
CHANNELS = (RGB, "bgr", "grey")
FITS = "squash, crop, crop:SHARE (0.875: 224 of 256), letterbox or letterbox:LEVEL (of the bars)"
CHANNELS_HELP = (
    "What the network is given of pictures: rgb, bgr (blue first) or grey (one channel)."
)
FIT_HELP = (
    "How pictures of another size are made to fit: squash, crop[:SHARE] (0.875: the middle, 224 of "
    "256) or letterbox[:LEVEL] (114: of the bars)."
)
ChannelsOption = Annotated[
    str,
    typer.Option(
        "--channels", help=f"A model brought: {CHANNELS_HELP[0].lower()}{CHANNELS_HELP[1:]}"
    ),
]
FitOption = Annotated[
    str, typer.Option("--fit", help=f"A model brought: {FIT_HELP[0].lower()}{FIT_HELP[1:]}")
]


@dataclass(frozen=True, slots=True)
class PictureOptions:
    """The options `--mean`, `--std`, `--channels` and `--fit`, as they were given."""

    mean: str = NO_MEAN
    std: str = NO_STD
    channels: str = RGB
    fit: str = SQUASH

    @property
    def given(self) -> dict[str, bool]:
        """Which of them say anything, by their names."""
        return {
            "--mean": self.mean != NO_MEAN, "--std": self.std != NO_STD,
            "--channels": self.channels != RGB, "--fit": self.fit != SQUASH,
        }  # fmt: skip

    @property
    def depth(self) -> int:
        """Channels of the network's input, 3 or 1."""
        return 1 if self.channels == "grey" else 3

    def made(self) -> PictureInput:
        """What they say, checked. Raises `UsageError`."""
        from artefacts import UsageError
        from models.facts.preprocessing import PictureInput

        if self.channels not in CHANNELS:
            raise UsageError(f"--channels: found '{self.channels}', expected {', '.join(CHANNELS)}")
        fit = parse_fit(self.fit)
        mean, std = (_numbers(n, t, self.depth) for n, t in self._scales())
        if not all(s > 0 for s in std):
            raise UsageError(f"--std: found '{self.std}', expected numbers above zero")
        channels = cast("Channels", self.channels)
        return PictureInput(mean, std, channels, fit.kind, fit.crop_share, fit.fill)

    def refuse_beside(self, taken: str) -> None:
        """Refuse them beside an input of another kind: `taken`, as `--input` calls it."""
        from artefacts import UsageError

        for option, found in self.given.items():
            if found:
                raise UsageError(
                    f"{option}: found it given for --input {taken}, expected none (it is of "
                    "pictures)"
                )

    def _scales(self) -> tuple[tuple[str, str], tuple[str, str]]:
        return ("mean", self.mean), ("std", self.std)


def parse_fit(text: str) -> PictureFit:
    """What `--fit` says: squash, crop, crop:SHARE, letterbox or letterbox:LEVEL."""
    from artefacts import UsageError
    from models.facts.picture_fit import CROP_SHARE, FILL, PictureFit

    kind, colon, more = text.partition(":")
    share, fill = CROP_SHARE, FILL
    known = kind in ("squash", "crop", "letterbox") and (not colon or kind != "squash")
    if known and colon and kind == "crop":
        known = re.fullmatch(r"[0-9]{0,3}\.?[0-9]{1,9}", more) is not None
        share = float(more) if known else share
    elif known and colon:
        known = re.fullmatch(r"[0-9]{1,3}", more) is not None
        fill = int(more) if known else fill
    if not known or not 0.0 < share <= 1.0 or fill > 255:
        raise UsageError(f"--fit: found '{text}', expected {FITS}")
    return PictureFit(cast("FitKind", kind), share, fill)


def _numbers(name: str, text: str, depth: int) -> tuple[float, ...]:
    """One number, or one for each channel; of a grey picture three that are equal are one."""
    from artefacts import UsageError

    try:
        found = tuple(float(part) for part in text.split(","))
    except ValueError:
        found = ()
    if depth == 1 and len(found) == 3 and len(set(found)) == 1:
        found = found[:1]
    if len(found) not in (1, depth) or not all(map(math.isfinite, found)):
        wanted = "one number" if depth == 1 else "three numbers, one a channel, or one for all"
        raise UsageError(f"--{name}: found '{text}', expected {wanted}")
    return found * (depth // len(found))
