"""A sweep from its definition to its tables: what is there is skipped, what is missing is run."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from experiments.sweeps.definition import Sweep
from experiments.sweeps.grid import Cell, expand
from experiments.sweeps.results import CellFailure, Record, Store
from experiments.sweeps.runners import Done


@dataclass(frozen=True)
class Swept:
    """What a run of a sweep did: records of the definition's cells; how many were there before."""

    records: tuple[Record, ...]
    skipped: int

    @property
    def failed(self) -> tuple[CellFailure, ...]:
        """The cells that ended in an error."""
        return tuple(r for r in self.records if isinstance(r, CellFailure))


def run_sweep(
    sweep: Sweep,
    folder: str | Path,
    run: Callable[[Sequence[Cell]], Generator[Done]],
    begun: Callable[[int, int], None] = lambda cells, skipped: None,
    finished: Callable[[Record], None] = lambda record: None,
) -> Swept:
    """Run the cells that `folder` lacks; tables are whole after every one of them.

    `run` gives cells as they end, in any order, and ends what runs when it is closed; `begun` hears
    how many cells there are and how many were finished before, `finished` is given every one that
    ends now.

    `sweep` names the cells.
    """
    cells = expand(sweep)
    store = Store(folder, cells)
    with store.locked():
        missing = store.load()
        skipped = len(cells) - len(missing)
        begun(len(cells), skipped)
        store.write_tables()
        if missing:
            with closing(run(missing)) as ended:
                for done in ended:
                    finished(store.add(done))
    return Swept(store.records(), skipped)
