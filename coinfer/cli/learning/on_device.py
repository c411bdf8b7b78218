"""`coinfer profile --on-device`: a model's folder measured where it will run, without torch."""

from __future__ import annotations

from pathlib import Path

import typer

from coinfer.cli.console import console, emit_json, progress_bar
from coinfer.cli.learning.machines import print_change, whole_s


def profile_here(
    model: str, out: Path, threads: int, repeats: int, codecs: tuple[str, ...], *, json: bool
) -> None:
    """Measure `model` on this machine; `out` is a file, or the model's folder, which takes it in.

    `codecs` are timed, else those that the folder's profiles have times of.
    """
    from artefacts import UsageError, ready_file
    from models.facts.cards import load_model
    from models.facts.merging import DEVICE, folder_profile, merge_profile, timed_codecs
    from models.facts.profiles import read_profile, write_profile
    from models.networks.measuring.profiling import profile_model
    from models.networks.measuring.timing import ProfilingArgs

    if ":" in model:
        raise UsageError(
            f"--on-device: found '{model}', expected the folder that 'coinfer init' or 'coinfer "
            "profile' has made of it elsewhere"
        )
    loaded = load_model(model)
    into = out.is_dir() and out.resolve() == loaded.folder.resolve()
    if out.is_dir() and not into:
        raise UsageError(f"--out: found the folder '{out}', expected a file, or '{model}' itself")
    there = folder_profile(loaded, DEVICE) if into else out
    ready_file(there)
    args = ProfilingArgs(
        "onnxruntime", threads, repeats, grid=0, codecs=codecs or timed_codecs(loaded)
    )
    with progress_bar() as bar:
        task = bar.add_task(loaded.spec.name, total=None, note="")
        try:
            taken = profile_model(
                loaded, DEVICE, args,
                lambda what, done, all_: bar.update(
                    task, description=what, completed=done, total=all_
                ),
            )  # fmt: skip
        except KeyboardInterrupt:
            console.print("interrupted: nothing was written")
            raise typer.Exit(130) from None
    beside = folder_profile(loaded, DEVICE)
    before = read_profile(beside) if beside.is_file() else None
    if into:
        merge_profile(loaded, taken, there)
    else:
        write_profile(there, taken)
    if json:
        emit_json({"profile": str(there), "device_s": whole_s(taken)})
        return
    print_change(there, before, taken)
    if not into:
        console.print(
            f"go on where the scenario is: coinfer machines --model {loaded.folder.name} "
            f"--merge {there.name}"
        )
