"""Outcomes of a model: every sample at every exit, under every codec at every device-first cut.

A pass over samples that was cut goes on where it was, where somebody says in which folder.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np

from artefacts import UsageError
from artefacts.arrays import Float32s
from models.data.datasets import Samples
from models.facts.cards import Model
from models.facts.judges import Judge, default_judge
from models.facts.outcomes import Key, Outcomes
from models.graphs.quantisation import Activations
from models.networks.judged_rows import JudgedRows
from models.networks.kept_parts import Keep, KeptParts, arrays_digest, function_digest, packages
from models.networks.tried_answers import TriedAnswers

LOSSY_CODECS = ("int8", "float16")
MOST_BYTES = 2**27
MOST_TOGETHER = 25
"""Samples that are run at once, at most: more of them leave the processor's caches."""


def judge(
    model: Model,
    samples: Samples,
    dataset: str,
    progress: Callable[[int, int], None] = lambda done, total: None,
    batch: int | None = None,
    codecs: Sequence[str] = LOSSY_CODECS,
    threads: int = 1,
    activations: Activations | None = None,
    judge_by: Judge | None = None,
    keep: Keep | None = None,
) -> Outcomes:
    """Run all samples once; what crosses is encoded, decoded and carried on to the exit.

    A cut in the trunk is shared by every exit behind it, so each cut is continued once through
    the trunk rather than once for each exit. Of packed codecs only the bytes are recorded: their
    answers are those of the codec that is packed. With `activations` every whole branch is judged
    in int8 too, under the name of that executor (`QUANTISED`).

    `model` is judged on `samples` of `dataset`, a name, by `judge_by` (None: the usual judge of its
    kind of answers). `batch` samples are run at once (`MOST_TOGETHER`, or as many as
    `MOST_BYTES` of the trunk's tensors allow), on `threads`; `codecs` are names.
    `progress(done, total)` counts samples. Cuts are computed side by side, on as many processors as
    there are. Where `keep` is given a pass that was cut goes on, to the same outcomes bit by bit.
    """
    if batch is None:
        one = 4 * sum(math.prod(shape) for shape in model.spec.shapes[-1])
        batch = max(1, min(MOST_TOGETHER, MOST_BYTES // one))
    judge_by = judge_by or default_judge(model.answers)
    tried, rows = TriedAnswers(model, codecs, threads, activations), JudgedRows(model, judge_by)
    parts, kept = None, 0
    if keep is not None:
        parts = keep(_identity(model, samples, codecs, (batch, threads), activations, judge_by))
        kept = _taken_up(parts, tried, rows, samples, batch)
        if kept:
            progress(kept, len(samples))
    for start in range(kept, len(samples), batch):
        stop = min(start + batch, len(samples))
        found = tried.answers(samples.x[start:stop])
        _check_finite(model, found, start, stop)
        rows.add(found, samples.y[start:stop])
        if parts is not None and (parts.due or (kept and stop == len(samples))):
            parts.keep(kept, stop, rows.part() | tried.part())
            kept = stop
        progress(stop, len(samples))
    return rows.outcomes(dataset, samples, tried.mean_bytes())


def _identity(
    model: Model,
    samples: Samples,
    codecs: Sequence[str],
    sizes: tuple[int, int],
    activations: Activations | None,
    judge_by: Judge,
) -> dict[str, str]:
    """Everything that decides outcomes, bit by bit; `sizes` of batches and pools of threads."""
    return {
        "model": model.digest,
        "input": repr((model.card.preprocessing, model.answers)),
        "samples": arrays_digest(samples.x, samples.y),
        "codecs": ", ".join(codecs),
        "batch and threads": repr(sizes),
        "activations": "" if activations is None else activations.digest,
        "judge": function_digest(judge_by),
        "packages": packages(),
    }


def _taken_up(
    parts: KeptParts, tried: TriedAnswers, rows: JudgedRows, samples: Samples, batch: int
) -> int:
    """Take up the parts of a pass that was cut; gives the samples that are behind it.

    The first batch is run again: what is kept stands only where that gives the same, whatever has
    changed that no digest knows of (a module that the author's judge imports, another processor).
    """
    found = parts.read()
    if not found:
        return 0
    again = rows.empty()
    count = min(batch, len(samples))
    first = tried.answers(samples.x[:count])
    _check_finite(rows.model, first, 0, count)
    again.add(first, samples.y[:count])
    tried.forget()
    reached = found[-1][1]
    whole = reached == len(samples) or (reached < len(samples) and reached % batch == 0)
    try:
        for start, stop, arrays in found:
            rows.take(arrays, stop - start)
            tried.take(arrays)
        same = whole and rows.begins_as(again, count)
    except (KeyError, ValueError, IndexError):  # somebody else has written there
        same = False
    if same:
        return reached
    parts.drop()
    rows.clear()
    tried.forget()
    return 0


def _check_finite(model: Model, found: dict[Key, Float32s], start: int, stop: int) -> None:
    for (exit_, _, _), scores in found.items():
        if not np.isfinite(scores).all():
            raise UsageError(
                f"network '{model.spec.name}', exit {exit_ + 1}: found scores that are not finite "
                f"numbers for some of samples {start} to {stop - 1}, expected answers"
            )
