"""The command line of every job: `--config FILE` and one dotted option per field of the configuration."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any, get_origin

import yaml

from atlas_ray.config import PipelineConfig, load
from atlas_ray.errors import ConfigError
from atlas_ray.section import leaves
from atlas_ray.selection import method


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
    overrides, namespace = parse_overrides(parser, argv)
    return load(namespace.config, overrides), namespace


def parse_overrides(
    parser: argparse.ArgumentParser, argv: Sequence[str] | None = None
) -> tuple[dict[str, Any], argparse.Namespace]:
    """The dotted options that are given, by name, and the parser's other options; no file is read."""
    try:
        namespace, unknown = parser.parse_known_args(argv)
    except argparse.ArgumentError as error:
        raise ConfigError(f"command line: {error}; see --help") from error
    if unknown:
        raise ConfigError(f"command line: unknown option {unknown[0]!r}; see --help")
    given = {name: value for name, value in vars(namespace).items() if value is not None and "/" in name}
    return {name[1:]: _parsed(name[1:], value) for name, value in given.items()}, namespace


def parser_for(description: str) -> argparse.ArgumentParser:
    """A parser with `--config` and every dotted option, those of the selection methods included."""
    parser = argparse.ArgumentParser(
        description=description, exit_on_error=False, allow_abbrev=False, epilog=_epilog(),
        formatter_class=lambda prog: argparse.RawDescriptionHelpFormatter(prog, max_help_position=44, width=110),
    )  # fmt: skip
    parser.add_argument("--config", metavar="FILE", help="YAML file, such as configs/quickstart.yaml")
    groups: dict[str, argparse._ArgumentGroup] = {}
    for dotted, field, _ in leaves(PipelineConfig):
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


def _epilog() -> str:
    """The selection methods, a line for each."""
    found = [(name, method.method_class(name)) for name in method.names()]
    lines = [f"  {name:<14}{cls.summary} ({cls.source})" for name, cls in found]
    return "\n".join(["selection methods, for select.methods and select.selections:", *lines]).replace("%", "%%")


def _parsed(dotted: str, value: str | list[str]) -> Any:
    try:
        if isinstance(value, list):
            return tuple(yaml.safe_load(item) for item in value)
        return yaml.safe_load(value)
    except yaml.YAMLError as error:
        raise ConfigError(f"command line: --{dotted} {value}: {' '.join(str(error).split())}") from error
