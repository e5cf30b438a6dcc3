"""Reference pages that are made from the code: every option of the configuration, and the help of every command."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterable, Iterator
from types import NoneType
from typing import Any, get_args, get_origin

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from pydantic.fields import FieldInfo

from atlas_ray.cli import commands, options
from atlas_ray.config import PipelineConfig
from atlas_ray.section import Section, leaves, section_of

Row = tuple[str, FieldInfo, tuple[str, ...]]
"""Dotted name, field, and its marks."""
CONFIGURATION = """# Configuration

Every option of a run, with its type, its default and what it does, as the classes in `atlas_ray/config.py` and in the
selection methods' files declare it. A configuration is a YAML file of sections; on the command line an option is
`--section.option VALUE` or `--set section.option=VALUE` (see [the command](../commands.md#options)).

Options marked *runtime* say how work is done and never change a result, so changing one makes nothing stale. Those
marked *names units* say which results are wanted; each of these is current or stale by itself.
"""
HELP = """# Every command's help

What `atlas-ray COMMAND --help` prints. How the command is used is told in [the command](../commands.md).
"""


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the two pages."""
    files.append(File.generated(config, "reference/configuration.md", content=configuration()))
    files.append(File.generated(config, "reference/help.md", content=command_help()))
    return files


def configuration() -> str:
    """The options, section by section."""
    known = list(_with_named(leaves(PipelineConfig)))
    parts = [CONFIGURATION]
    for name in options.section_names():
        field = PipelineConfig.model_fields.get(name)
        section = section_of(field) if field else None
        parts += [f"## {name}", inspect.getdoc(section or PipelineConfig) or ""]
        rows = [each for each in known if (each[0].partition(".")[0] if "." in each[0] else "run") == name]
        parts.append("\n".join(_table(rows)))
    return "\n\n".join(parts) + "\n"


def command_help() -> str:
    """The help of every command, as it is printed."""
    parts = [HELP]
    for name in commands.names():
        command = commands.load(name)
        text = options.help_text(command, "") if command.sections else command.parser().format_help()
        parts.append(f"## atlas-ray {name}\n\n```text\n{text.rstrip()}\n```")
    return "\n\n".join(parts) + "\n"


def _with_named(rows: Iterable[Row]) -> Iterator[Row]:
    """The options, each that holds sections by name followed by the options of such a section."""
    for dotted, field, marks in rows:
        yield dotted, field, marks
        values = get_args(field.annotation)
        if get_origin(field.annotation) is dict and isinstance(values[1], type) and issubclass(values[1], Section):
            yield from leaves(values[1], f"{dotted}.NAME.")


def _table(rows: list[Row]) -> Iterator[str]:
    yield "| option | type | default | meaning |"
    yield "| --- | --- | --- | --- |"
    for dotted, field, marks in rows:
        about = " ".join((field.description or "").split())
        if marks:
            about += f" *{'runtime' if 'runtime-only' in marks else 'names units'}*"
        yield f"| `{dotted}` | {_code(_type(field))} | {_code(_default(field))} | {_cell(about)} |"


def _type(field: FieldInfo) -> str:
    text = inspect.formatannotation(field.annotation)
    if str(field.annotation).startswith("typing.Literal"):
        text = " | ".join(repr(value) for value in get_args(field.annotation))
    limits = {"Gt": ">", "Ge": ">=", "Lt": "<", "Le": "<="}
    bounds = [f"{limits[type(each).__name__]} {getattr(each, type(each).__name__.lower())}"
              for each in field.metadata if type(each).__name__ in limits]  # fmt: skip
    return re.sub(r"\b(?:typing|atlas_ray(?:\.\w+)*)\.", "", ", ".join([text, *bounds]))


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    value: Any = field.get_default(call_default_factory=True)
    return "" if isinstance(value, NoneType) else str(list(value) if isinstance(value, tuple) else value)


def _code(text: str) -> str:
    return f"`{text}`" if text else ""


def _cell(text: str) -> str:
    return text.replace("|", "\\|")
