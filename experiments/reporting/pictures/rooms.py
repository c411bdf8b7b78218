"""The pictures of the architecture pages: rooms and arrows, and a frame's way through threads."""

from __future__ import annotations

from collections.abc import Callable

from experiments.reporting.pictures.svg import DEVICE, EDGE, LINK, LOCAL, PALE, Drawing

ROOMS = (
    ("artefacts", "errors, files, arrays", 20.0, 120.0, PALE),
    ("traces", "what links did", 190.0, 60.0, LINK),
    ("models", "what is computed", 190.0, 180.0, LINK),
    ("controller", "what is decided, and done", 360.0, 120.0, DEVICE),
    ("envs", "Gymnasium", 560.0, 60.0, EDGE),
    ("experiments", "training, evaluation", 560.0, 120.0, EDGE),
    ("coinfer", "the command line", 560.0, 180.0, EDGE),
)
WIDE = {"controller": 170.0}


def rooms() -> Drawing:
    """The rooms; an arrow leads from who is imported to who imports."""
    drawing = Drawing(720, 250, "The rooms, each importing only those to its left or above it")
    for name, what, x, y, colour in ROOMS:
        width = WIDE.get(name, 140.0)
        drawing.box(x, y, width, 46, colour)
        drawing.words(x + width / 2, y + 20, name, ink="white", anchor="middle", bold=True)
        drawing.words(x + width / 2, y + 37, what, size=11, ink="white", anchor="middle")
    for x, y, to_x, to_y in (
        (160, 132, 188, 94), (160, 154, 188, 192), (330, 94, 358, 132), (330, 192, 358, 154),
        (530, 132, 558, 94), (630, 106, 630, 118), (630, 166, 630, 178),
    ):  # fmt: skip
        drawing.arrow(x, y, to_x, to_y)
    drawing.words(20, 24, "imported", ink=PALE)
    drawing.arrow(82, 20, 636, 20)
    drawing.words(700, 24, "imports", ink=PALE, anchor="end")
    return drawing


STEPS = (
    (0, "client", "POST /infer: picture, deadline", LOCAL),
    (1, "HTTP loop", "read, bounded; decode the JPEG", DEVICE),
    (2, "engine", "ask the controller, start the plan", DEVICE),
    (3, "CPU thread", "prefix: run layers, encode", DEVICE),
    (2, "", "hand over; see to a local answer", DEVICE),
    (4, "link, sender", "upload in chunks", LINK),
    (6, "edge, reader", "receive, timestamp, admit", EDGE),
    (7, "edge, worker", "decode, batch, run layers", EDGE),
    (6, "", "write the answer", EDGE),
    (5, "link, receiver", "timestamp, measure the link", LINK),
    (2, "", "one answer; tell the controller", DEVICE),
    (1, "", "JSON", DEVICE),
)


def frame() -> Drawing:
    """A frame that the edge answers: a column for every thread, time downwards."""
    columns = 8
    step, top = 720.0 / columns, 70.0
    height = top + 34.0 * len(STEPS) + 20
    drawing = Drawing(720, height, "One frame, thread by thread, from request to answer")
    drawing.words(step * 1.1, 20, "device process", ink=DEVICE, bold=True)
    drawing.words(step * 6.1, 20, "edge process", ink=EDGE, bold=True)
    drawing.line(step * 6, 8, step * 6, height - 8, ink=PALE, dashed=True)
    for column, name, _, colour in STEPS:
        if name:
            x = step * (column + 0.5)
            drawing.words(x, 46, name, size=11, ink=colour, anchor="middle", bold=True)
            drawing.line(x, 54, x, height - 8)
    before: tuple[float, float] | None = None
    for number, (column, _, said, colour) in enumerate(STEPS):
        x, y = step * (column + 0.5), top + 34.0 * number
        drawing.box(x - 5, y, 10, 26, colour)
        right = column >= columns - 3
        place, anchor = (x - 10, "end") if right else (x + 10, "start")
        drawing.words(place, y + 17, said, size=11, anchor=anchor)
        if before is not None:
            toward = 6.0 if before[0] < x else -6.0
            drawing.arrow(before[0] + toward, before[1], x - toward, y + 4)
        before = (x, y + 24)
    return drawing


PICTURES: dict[str, Callable[[], Drawing]] = {"rooms": rooms, "frame": frame}
