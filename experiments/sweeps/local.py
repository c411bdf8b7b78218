"""Cells on this machine: one process at a time for each of N slots.

Every slot is an executor of its own, so that a worker that dies (out of memory, killed) takes no
neighbour's cell with it.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import multiprocessing.context
import multiprocessing.process
import os
import signal
import threading
from collections import deque
from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from typing import Any

import msgspec

from artefacts.processes import end_with_parent
from experiments.sweeps.cell import THREAD_VARIABLES, Answer, run_cell, use_one_thread
from experiments.sweeps.grid import Cell
from experiments.sweeps.runners import MAX_ATTEMPTS, Done


def run_local(cells: Sequence[Cell], jobs: int) -> Generator[Done]:
    """Run cells in `jobs` processes and give each as it ends.

    Closing the iterator, or an exception in it, ends the processes at once.
    """
    queue = deque((cell, 1) for cell in cells)
    idle = [_Slot() for _ in range(min(jobs, len(cells)))]
    slots = tuple(idle)
    running: dict[Future[Answer], tuple[_Slot, Cell, int]] = {}
    try:
        while queue or running:
            while queue and idle:
                cell, attempt = queue.popleft()
                slot = idle.pop()
                running[slot.begin(cell)] = (slot, cell, attempt)
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                slot, cell, attempt = running.pop(future)
                idle.append(slot)
                try:
                    answer = future.result()
                except BrokenProcessPool:
                    died = slot.bury()
                    if attempt < MAX_ATTEMPTS:
                        queue.appendleft((cell, attempt + 1))
                        continue
                    answer = {"error": f"its process died {attempt} times, at last {died}"}
                yield Done(cell, answer, attempt)
    finally:
        for slot in slots:
            slot.close()


class _Spawned(multiprocessing.context.SpawnContext):
    """Starts processes anew, and remembers them."""

    def __init__(self) -> None:
        super().__init__()
        self.processes: list[multiprocessing.process.BaseProcess] = []

    def Process(self, *args: Any, **options: Any) -> Any:  # type: ignore[override]
        """A process as executors ask for one."""
        process = super().Process(*args, **options)
        self.processes.append(process)
        return process


class _Slot:
    """One worker process, started when it is first needed and again after a death."""

    def __init__(self) -> None:
        self._context = _Spawned()
        self._pool: ProcessPoolExecutor | None = None

    def begin(self, cell: Cell) -> Future[Answer]:
        """Hand a cell to the process."""
        encoded = msgspec.json.encode(cell)
        if self._pool is not None:
            try:
                return self._pool.submit(run_cell, encoded)
            except BrokenProcessPool:  # it died while it had nothing to do
                self.close()
        self._context = _Spawned()
        self._pool = ProcessPoolExecutor(1, mp_context=self._context, initializer=_prepare)
        with _as_workers_begin():
            return self._pool.submit(run_cell, encoded)

    def bury(self) -> str:
        """Clean up after a death; how it died."""
        self.close()
        codes = [process.exitcode for process in self._context.processes]
        killed = [signal.Signals(-code).name for code in codes if code is not None and code < 0]
        return f"by {killed[0]}" if killed else f"with exit code {codes[0]}"

    def close(self) -> None:
        """End the process, whatever it does."""
        if self._pool is not None:
            for process in self._context.processes:
                if process.pid is not None:
                    process.kill()
            # the executor waits for its process; whoever else did would take the exit code from it
            self._pool.shutdown(wait=True, cancel_futures=True)
        self._pool = None


@contextlib.contextmanager
def _as_workers_begin() -> Iterator[None]:
    """Processes started meanwhile compute on one thread and never see Ctrl-C.

    Both are inherited: numpy asks for the number of threads when it is first imported, and what
    becomes of a process at Ctrl-C the driver decides. One that comes meanwhile is raised after it:
    another thread takes it where this one blocks it, and nobody could end a process half begun.
    """
    came: list[int] = []
    before = None
    if threading.current_thread() is threading.main_thread():
        before = signal.signal(signal.SIGINT, lambda number, frame: came.append(number))
    environment = {name: os.environ.get(name) for name in THREAD_VARIABLES}
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    os.environ.update(dict.fromkeys(THREAD_VARIABLES, "1"))
    try:
        yield
    finally:
        for name, value in environment.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        if before is not None:
            signal.signal(signal.SIGINT, before)
        if came:
            signal.raise_signal(signal.SIGINT)


def _prepare() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None and parent.pid is not None:
        end_with_parent(parent.pid)
    threading.Thread(target=_end_with_driver, daemon=True).start()
    use_one_thread()


def _end_with_driver() -> None:
    """A driver that is killed cannot end its processes; they notice, and hold nothing.

    Also where there is no kernel that does it.
    """
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
    os._exit(1)
