"""How good the answers of a run are, frame by frame, by what is right of its samples.

Imports no torch: a device judges its own run.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from artefacts import UsageError
from artefacts.arrays import Floats
from controller.device.frame import FrameRecord
from controller.device.frame_loops import labels_agree
from models.facts.answers import Answers
from models.facts.judges import Labels, judge_of, judged, usual_judge_name


def run_judge(kind: Answers, judge: str = "") -> str:
    """The name of the judge that a run is held to, of a network whose card names `judge`.

    An edge answers a class and how sure it is, not its scores: of a class a run has top-1 alone. A
    function that a folder names is not imported: the usual judge of the `kind` of answers counts.
    """
    return usual_judge_name(kind) if kind.one_class or not judge or ":" in judge else judge


def another_judge(kind: Answers, judge: str = "") -> str:
    """Why a run is held to another judge than the recorded answers, in a line; empty: it is not.

    `kind` and `judge` are the network's answers and what its card names.
    """
    found, own = run_judge(kind, judge), judge or usual_judge_name(kind)
    if found == own:
        return ""
    why = "a run does not import it" if ":" in own else "an edge answers a class, not its scores"
    return f"measured answers are judged by {found}, predicted ones by {own} ({why})"


def answers_quality(
    records: Sequence[FrameRecord], labels: Labels, kind: Answers, judge: str = ""
) -> Floats:
    """Quality of the answer of each of `records` (F,), 0 to 1; 0 where a frame has no answer.

    `labels` (N, ...) are those of the samples, which cycle; what they are depends on the network's
    `kind` of answers. A class is right or wrong: it comes without the scores of the others.
    Anything else is judged by `judge`, a card's name of one (empty: the usual one of its kind).
    `UsageError` where an answer is no row that this judge can hold against its label.
    """
    if kind.one_class:
        return labels_agree(records, labels).astype(np.float64)
    found = np.zeros(len(records))
    answered = [k for k, record in enumerate(records) if record.values is not None]
    if not answered:
        return found
    rows = [np.frombuffer(records[k].values or b"", dtype="<f4") for k in answered]
    if len({len(row) for row in rows}) != 1:
        raise UsageError(
            f"run: found answers of {min(map(len, rows))} to {max(map(len, rows))} values, "
            "expected as many in every frame"
        )
    right = labels[[records[k].frame % len(labels) for k in answered]]
    found[answered] = judged(judge_of(judge, kind), np.stack(rows).astype(np.float32), right)
    return found
