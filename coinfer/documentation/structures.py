"""Structures of files as tables: every key with type, default and meaning, from their own source.

A key's meaning is the string literal below its field, where Sphinx and editors look for it too.
Python keeps no such docstrings, so they are read from the class's syntax tree.
"""

from __future__ import annotations

import ast
import inspect
import textwrap
from collections.abc import Iterator
from functools import cache
from typing import Any

import msgspec
import msgspec.inspect as kinds

from coinfer.documentation.markdown import code, paragraphs, plain, table

FORMAT_VERSION = "Of this kind of file; one that is not read is refused."
WORDS: dict[type[Any], str] = {
    kinds.StrType: "text",
    kinds.IntType: "whole number",
    kinds.FloatType: "number",
    kinds.BoolType: "true or false",
    kinds.BytesType: "bytes (base64)",
    kinds.AnyType: "any value",
    kinds.NoneType: "null",
}


def section(kind: type[msgspec.Struct], title: str, level: int, *, defaults: bool) -> str:
    """A heading, the class's docstring, and a table of its fields."""
    rows = [
        (
            code(field.encode_name),
            type_text(field.type),
            *((default_text(field),) if defaults else ()),
            plain(meanings(kind).get(field.name, "")),
        )
        for field in fields_of(kind)
    ]
    columns = ("key", "type", *(("default",) if defaults else ()), "meaning")
    head = f"{'#' * level} {title}"
    return "\n\n".join(
        (head, paragraphs(inspect.cleandoc(kind.__doc__ or "")), table(columns, rows))
    )


def fields_of(kind: type[msgspec.Struct]) -> tuple[kinds.Field, ...]:
    """The fields in their order, those of base classes first."""
    found = kinds.type_info(kind)
    assert isinstance(found, kinds.StructType)
    return found.fields


def nested(kind: type[msgspec.Struct]) -> list[type[msgspec.Struct]]:
    """The structures inside one, in the order of their fields, each once, without itself."""
    found: list[type[msgspec.Struct]] = []
    for field in fields_of(kind):
        for inner in _structs(field.type):
            found += [k for k in (inner, *nested(inner)) if k not in found]
    return found


def _structs(kind: kinds.Type) -> Iterator[type[msgspec.Struct]]:
    if isinstance(kind, kinds.StructType):
        yield kind.cls
    elif isinstance(kind, kinds.UnionType):
        for one in kind.types:
            yield from _structs(one)
    elif isinstance(kind, kinds.VarTupleType | kinds.ListType):
        yield from _structs(kind.item_type)
    elif isinstance(kind, kinds.TupleType):
        for one in kind.item_types:
            yield from _structs(one)
    elif isinstance(kind, kinds.DictType):
        yield from _structs(kind.value_type)


def type_text(kind: kinds.Type) -> str:
    """A field's type in words."""
    if isinstance(kind, kinds.StructType):
        return f"[{kind.cls.__name__}](#{kind.cls.__name__.lower()})"
    if isinstance(kind, kinds.LiteralType):
        return " or ".join(code(msgspec.json.encode(value).decode()) for value in kind.values)
    if isinstance(kind, kinds.UnionType):
        return " or ".join(type_text(one) for one in kind.types)
    if isinstance(kind, kinds.VarTupleType | kinds.ListType):
        return f"list of {type_text(kind.item_type)}"
    if isinstance(kind, kinds.TupleType):
        return f"[{', '.join(type_text(one) for one in kind.item_types)}]"
    if isinstance(kind, kinds.DictType):
        return f"map of text to {type_text(kind.value_type)}"
    return WORDS[type(kind)]


def default_text(field: kinds.Field) -> str:
    """A default as the file would have it; 'required' where there is none."""
    if field.required:
        return "required"
    value = field.default
    if value is msgspec.NODEFAULT:
        value = field.default_factory()
    if isinstance(value, msgspec.Struct):
        return "its own"
    if value is None:
        return "none"
    return code(msgspec.json.encode(value).decode())


@cache
def meanings(kind: type[msgspec.Struct]) -> dict[str, str]:
    """What the literals below the fields say, by field, those of base classes too."""
    found = {"format_version": FORMAT_VERSION}
    for owner in reversed(kind.__mro__):
        if owner is msgspec.Struct or not issubclass(owner, msgspec.Struct):
            continue
        body = ast.parse(textwrap.dedent(inspect.getsource(owner))).body[0]
        assert isinstance(body, ast.ClassDef)
        for field, after in zip(body.body, body.body[1:], strict=False):
            if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name):
                said = _literal(after)
                if said:
                    found[field.target.id] = said
    return found


def _literal(statement: ast.stmt) -> str:
    if isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant):
        value = statement.value.value
        return " ".join(inspect.cleandoc(value).split()) if isinstance(value, str) else ""
    return ""
