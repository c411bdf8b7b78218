"""docs/reference/names.md: every controller and every codec, as the registries have them."""

from __future__ import annotations

import inspect

from coinfer.documentation.markdown import code, page, plain, table


def names_page() -> str:
    """The page."""
    return page(
        "Controllers and codecs",
        "## Controllers",
        "A controller picks the plan of every frame. `--controllers` and `controller` in "
        "`device.toml` take these names, those of installed packages, and "
        "`package.module:factory`. `coinfer controllers` lists what is installed.",
        "Simulating commands find `package.module` in the working folder, too. The daemon does "
        "not: it takes code from installed packages and from folders that `PYTHONPATH` names.",
        "*Needs*: `policy` is a learned policy, `training` the training traces or what was chosen "
        "on them, `future` the very traces that it is judged on. What needs the future runs in "
        "simulation only. *On demand*: not among all controllers of a comparison.",
        table(("name", "what it does", "needs", "runs on a device", "on demand"), _controllers()),
        "## Codecs",
        "A codec turns what crosses the link into bytes. `codecs` of a scenario's `[plans]` takes "
        "these names. *Exact*: answers behind it are those of no codec at all.",
        table(("name", "carries", "exact", "calibrated ranges", "what it is"), _codecs()),
    )


def _yes(value: bool) -> str:
    return "yes" if value else ""


def _controllers() -> list[tuple[str, ...]]:
    from controller.registry import SHIPPED

    return [
        (
            code(entry.name),
            entry.description,
            ", ".join(code(need) for need in sorted(entry.needs)),
            "yes" if entry.deployable else "no",
            _yes(entry.on_demand),
        )
        for entry in SHIPPED
    ]


def _codecs() -> list[tuple[str, ...]]:
    from models.codecs.packed import SUFFIX, Packed
    from models.codecs.registry import FAMILIES, codec_named, find_codec

    rows = []
    for family in FAMILIES:
        codec = codec_named(family.examples[0])
        packable = find_codec(family.examples[0] + SUFFIX) is not None
        name = code(family.shown) + (f", {code(family.shown + SUFFIX)}" if packable else "")
        rows.append(
            (
                name, f"a {codec.carries}", _yes(codec.exact), _yes(codec.needs_ranges),
                _first(type(codec)),
            )
        )  # fmt: skip
    return [*rows, (code(f"...{SUFFIX}"), "a tensor", "as its own", "as its own", _first(Packed))]


def _first(kind: type) -> str:
    """The first paragraph of a class's docstring."""
    return plain(inspect.cleandoc(kind.__doc__ or "").split("\n\n")[0])
