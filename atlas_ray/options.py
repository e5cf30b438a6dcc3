"""The command line of every job: `--config FILE` and one dotted option per field of the configuration."""

from __future__ import annotations

import argparse
import types
import typing
from collections.abc import Iterator, Sequence
from typing import Any, get_args, get_origin

import yaml
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from atlas_ray.config import PipelineConfig, Section, load
from atlas_ray.errors import ConfigError


def parse_args(description: str, argv: Sequence[str] | None = None) -> PipelineConfig:
    """The configuration from `--config FILE [--section.option VALUE ...]`; `--help` lists every option.

    Raises:
        ConfigError: as `load`, or an option is unknown.
    """
    config, _ = parse_args_with(parser_for(description), argv)
    return config


def parse_args_with(
    parser: argparse.ArgumentParser, argv: Sequence[str] | None = None
) -> tuple[PipelineConfig, argparse.Namespace]:
    """As `parse_args`, for a parser (from `parser_for`) that has options of its own besides."""
    try:
        namespace, unknown = parser.parse_known_args(argv)
    except argparse.ArgumentError as error:
        raise ConfigError(f"command line: {error}; see --help") from error
    if unknown:
        raise ConfigError(f"command line: unknown option {unknown[0]!r}; see --help")
    given = {name: value for name, value in vars(namespace).items() if value is not None and "/" in name}
    overrides = {name[1:]: _parsed(name[1:], value) for name, value in given.items()}
    return load(namespace.config, overrides), namespace


def parser_for(description: str) -> argparse.ArgumentParser:
    """A parser with `--config` and every dotted option."""
    parser = argparse.ArgumentParser(
        description=description, exit_on_error=False, allow_abbrev=False,
        formatter_class=lambda prog: argparse.HelpFormatter(prog, max_help_position=44, width=110),
    )  # fmt: skip
    parser.add_argument("--config", metavar="FILE", help="YAML file, such as configs/quickstart.yaml")
    groups: dict[str, argparse._ArgumentGroup] = {}
    for dotted, field in _leaves(PipelineConfig):
        section = dotted.rpartition(".")[0] or "run"
        group = groups.setdefault(section, parser.add_argument_group(section))
        many = get_origin(field.annotation) is tuple
        default = field.get_default(call_default_factory=True) if not field.is_required() else None
        text = " ".join((field.description or "").split()).replace("%", "%%")
        shown = " ".join(map(str, default)) if isinstance(default, tuple) else default
        group.add_argument(
            f"--{dotted}", dest=f"/{dotted}", nargs="+" if many else None, metavar="VALUE",
            help=f"{text} [{shown}]".replace("%%%%", "%%"),
        )  # fmt: skip
    return parser


def _leaves(model: type[BaseModel], prefix: str = "") -> Iterator[tuple[str, FieldInfo]]:
    for name, field in model.model_fields.items():
        section = _section(field.annotation)
        if section is None:
            yield prefix + name, field
        else:
            yield from _leaves(section, f"{prefix}{name}.")


def _section(annotation: Any) -> type[Section] | None:
    options = get_args(annotation) if get_origin(annotation) in (typing.Union, types.UnionType) else (annotation,)
    return next((o for o in options if isinstance(o, type) and issubclass(o, Section)), None)


def _parsed(dotted: str, value: str | list[str]) -> Any:
    try:
        if isinstance(value, list):
            return tuple(yaml.safe_load(item) for item in value)
        return yaml.safe_load(value)
    except yaml.YAMLError as error:
        raise ConfigError(f"command line: --{dotted} {value}: {' '.join(str(error).split())}") from error
