"""docs/reference/commands.md: every command and option, as the application itself has them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from coinfer.documentation.markdown import code, page, paragraphs, table

INTRODUCTION = """\
`coinfer COMMAND --help` prints the same, `coinfer --version` the version. A mistake is
one line on standard error and exit code 2.
Commands that report figures take `--json`; progress and remarks go to standard error."""


def commands_page() -> str:
    """The page."""
    found = list(application_commands())
    index = table(
        ("command", "what it does"),
        ((f"[`coinfer {name}`](#coinfer-{anchor(name)})", first_sentence(c)) for name, c in found),
    )
    return page("Commands", INTRODUCTION, index, *(_section(name, c) for name, c in found))


def application_commands() -> Iterator[tuple[str, Any]]:
    """(name, command) of every command that does something, as 'traces info', in their order."""
    from typer.main import get_command

    from coinfer.cli.app import app

    def walk(group: Any, before: tuple[str, ...]) -> Iterator[tuple[str, Any]]:
        for name, command in group.commands.items():
            if command.hidden:
                continue
            if hasattr(command, "commands"):
                yield from walk(command, (*before, name))
            else:
                yield " ".join((*before, name)), command

    yield from walk(get_command(app), ())


def anchor(name: str) -> str:
    """What the site makes of a command's name in a heading."""
    return name.replace(" ", "-")


def first_sentence(command: Any) -> str:
    """The first line of a command's help."""
    return paragraphs(command.help or "").split("\n\n")[0].replace("\n", " ")


def _section(name: str, command: Any) -> str:
    positional = [p for p in command.params if p.param_type_name == "argument"]
    options = [p for p in command.params if p.param_type_name == "option" and not p.hidden]
    parts = [f"## coinfer {name}", paragraphs(command.help or "")]
    usage = [*(_usage(p) for p in positional), "[OPTIONS]" if options else ""]
    if command.context_settings.get("allow_interspersed_args") is False:
        # what follows is another command's
        usage = ["[OPTIONS] --", *usage[:-1]]
    usage = ["coinfer", name, *usage]
    parts.append("```\n" + " ".join(part for part in usage if part) + "\n```")
    if positional:
        rows = ((code(p.name.upper()), _type(p), _default(p), p.help or "") for p in positional)
        parts.append(table(("argument", "type", "default", "meaning"), rows))
    if options:
        rows = ((_names(p), _type(p), _default(p), p.help or "") for p in options)
        parts.append(table(("option", "type", "default", "meaning"), rows))
    return "\n\n".join(part for part in parts if part)


def _usage(argument: Any) -> str:
    name = argument.name.upper() + ("..." if argument.nargs == -1 else "")
    return name if argument.required else f"[{name}]"


def _names(option: Any) -> str:
    return ", ".join(code(name) for name in (*option.opts, *option.secondary_opts))


def _type(parameter: Any) -> str:
    if parameter.param_type_name == "option" and parameter.is_bool_flag:
        return "switch"
    name = str(parameter.bare_type()).lower().removeprefix("list[").removesuffix("]")
    kind = {"int": "whole number", "float": "number", "str": "text"}.get(name, name)
    low, high = parameter.min, parameter.max
    if low is not None and high is not None:
        kind += f", {low:g} to {high:g}"
    elif low is not None:
        kind += f", {low:g} or more"
    elif high is not None:
        kind += f", {high:g} at most"
    return kind + (", may be repeated" if parameter.multiple or parameter.nargs == -1 else "")


def _default(parameter: Any) -> str:
    if parameter.required:
        return "required"
    value = parameter.default
    if parameter.param_type_name == "option" and parameter.is_bool_flag:
        return code(parameter.opts[0]) if value else ""
    return "" if value in (None, "", ()) else code(str(getattr(value, "value", value)))
