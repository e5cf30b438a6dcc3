"""The command line of what works on a run: `--config FILE`, one dotted option per field of the configuration, and help.

`--help` lists what a command takes by name, on one screen; `--help SECTION` explains the options of a section, and
`--help all` every option there is.
"""

from __future__ import annotations

from argparse import SUPPRESS, ArgumentParser, Namespace
from collections.abc import Iterable, Iterator, Sequence
from difflib import get_close_matches
from typing import Any, get_origin

import yaml
from pydantic.fields import FieldInfo

from atlas_ray import plugins
from atlas_ray.cli.command import Command, Parser, formatter
from atlas_ray.config import PipelineConfig
from atlas_ray.config_files import load, shipped
from atlas_ray.errors import ConfigError
from atlas_ray.section import leaves, section_of

_RUN = "run"
"""What the options that are in no section are called here."""


def parse_args(argv: Sequence[str] | None = None) -> PipelineConfig:
    """The configuration from `--config FILE [--section.option VALUE ...]`.

    Raises:
        ConfigError: as `load`, or an option is unknown.
    """
    overrides, chosen = parse(Parser(add_help=False), argv)
    return load(chosen.config, overrides)


def parse(parser: Parser, argv: Sequence[str] | None = None) -> tuple[dict[str, Any], Namespace]:
    """The dotted options that are given, by name, and the parser's own options; no file is read.

    Args:
        parser: with the arguments of a command; the options of the configuration are added to it.
        argv: None: those of this process.

    Raises:
        ConfigError: an option is unknown, or a value is no YAML.
    """
    _add_common(parser)
    for dotted, field in _options():
        parser.add_argument(f"--{dotted}", dest=f"/{dotted}", nargs="+" if _many(field) else None, help=SUPPRESS)
    chosen, unknown = parser.parse_known_args(argv)
    if unknown:
        raise ConfigError(f"command line: unknown option {unknown[0]!r}{_nearest(unknown[0], parser)}; see --help")
    given = {name: value for name, value in vars(chosen).items() if value is not None and "/" in name}
    overrides = {name[1:]: _parsed(name[1:], value) for name, value in given.items()}
    for text in chosen.set:
        name, equals, value = text.partition("=")
        if not (name and equals):
            raise ConfigError(f"command line: --set {text!r} is not of the form SECTION.OPTION=VALUE")
        overrides[name] = _parsed(name, value)
    return overrides, chosen


def option_names() -> list[str]:
    """Every dotted option, those of the selection methods included, in the order of the configuration."""
    return [dotted for dotted, _ in _options()]


def section_names() -> list[str]:
    """The sections of the configuration, and `run` for the options that are in none."""
    return list(dict.fromkeys(_section(dotted) for dotted, _ in _options()))


# --- help ------------------------------------------------------------------------------------------------------------
def asked_help(argv: Sequence[str]) -> str | None:
    """What `--help` is asked about: "" for the command, else a section or `all`; None: help is not asked for."""
    for place, word in enumerate(argv):
        if word in ("-h", "--help"):
            following = argv[place + 1] if place + 1 < len(argv) else ""
            return "" if following.startswith("-") else following
        if word.startswith("--help="):
            return word.removeprefix("--help=")
    return None


def help_text(command: Command, topic: str) -> str:
    """The help of a command.

    Args:
        command: one with sections.
        topic: "" for one screen, a section's name for its options, `all` for every option.

    Raises:
        ConfigError: there is no such section.
    """
    parser = command.parser()
    _add_common(parser)
    parser.add_argument("--SECTION.OPTION", metavar="VALUE", help="the same, as in --train.epochs 2")
    layout = formatter(parser.prog)
    if topic and topic != "all":
        _describe(layout, topic)
        return layout.format_help()
    layout.add_usage(None, parser._actions, ())
    layout.add_text(parser.description)
    layout.add_text(parser.epilog)
    layout.start_section("options")
    layout.add_arguments(parser._actions)
    layout.end_section()
    if topic == "all":
        for name in section_names():
            _describe(layout, name)
        return layout.format_help()
    layout.start_section("options of the configuration that it reads; those of `run` stand alone, as --seed 1")
    layout.add_text("\n".join(line for name in (_RUN, *command.sections) for line in _listed(name)))
    layout.end_section()
    layout.add_text(f"--help SECTION explains them, as in: {parser.prog} --help {command.sections[0]}")
    return layout.format_help()


def _listed(section: str) -> Iterator[str]:
    """A section by name, with the names of its options."""
    if section == _RUN:
        plain = [name for name, field in PipelineConfig.model_fields.items() if section_of(field) is None]
        yield from _wrapped(_RUN, plain)
        return
    model = section_of(PipelineConfig.model_fields[section])
    assert model is not None
    names = [f"{name}.*" if section_of(field) else name for name, field in model.model_fields.items()]
    if section == "select":
        names.append("METHOD.*")
    yield from _wrapped(section, names)


def _wrapped(title: str, names: Iterable[str], width: int = 100) -> Iterator[str]:
    line = f"{title:<12}"
    for name in names:
        if len(line) + len(name) > width:
            yield line.rstrip()
            line = " " * 12
        line += f"{name}  "
    yield line.rstrip()


def _describe(layout: Any, section: str) -> None:
    """Every option of a section with its default, and for `select` the methods."""
    found = [(dotted, field) for dotted, field in _options() if section in (dotted, _section(dotted))]
    found = found or [(dotted, field) for dotted, field in _options() if dotted.startswith(f"{section}.")]
    if not found:
        raise ConfigError(
            f"--help {section}: there is no such section{plugins.nearest(section, ['all', *section_names()])}"
        )
    parser = ArgumentParser(add_help=False)
    for dotted, field in found:
        parser.add_argument(f"--{dotted}", metavar="VALUE", nargs="+" if _many(field) else None, help=_help(field))
    layout.start_section(section)
    layout.add_arguments(parser._actions)
    layout.end_section()
    if section == "select":
        from atlas_ray.selection import method

        lines = [f"  {name:<14}{cls.summary} ({cls.source})" for name in method.names()
                 for cls in [method.method_class(name)]]  # fmt: skip
        layout.add_text("selection methods, for select.methods and select.selections:\n" + "\n".join(lines))


def _help(field: FieldInfo) -> str:
    default = None if field.is_required() else field.get_default(call_default_factory=True)
    shown = " ".join(map(str, default)) if isinstance(default, tuple) else default
    return f"{' '.join((field.description or '').split())} [{shown}]".replace("%", "%%")


# --- the options of the configuration --------------------------------------------------------------------------------
def _add_common(parser: ArgumentParser) -> None:
    parser.add_argument("--config", metavar="FILE", help=f"YAML file, or one on board: {', '.join(shipped())}")
    parser.add_argument("-h", "--help", nargs="?", metavar="SECTION", help="this text; of a section; of `all`")
    parser.add_argument(
        "--set", action="append", default=[], metavar="SECTION.OPTION=VALUE",
        help="an option of the configuration; repeatable",
    )  # fmt: skip


def _options() -> Iterator[tuple[str, FieldInfo]]:
    return ((dotted, field) for dotted, field, _ in leaves(PipelineConfig))


def _section(dotted: str) -> str:
    """The first part of a dotted name."""
    return dotted.partition(".")[0] if "." in dotted else _RUN


def _many(field: FieldInfo) -> bool:
    return get_origin(field.annotation) is tuple


def _nearest(word: str, parser: ArgumentParser) -> str:
    """The option that was meant, for the end of a message."""
    known = [name for action in parser._actions for name in action.option_strings]
    close = get_close_matches(word.partition("=")[0], known, 1)
    return f"; did you mean {close[0]!r}?" if close else ""


def _parsed(dotted: str, value: str | list[str]) -> Any:
    try:
        if isinstance(value, list):
            return tuple(yaml.safe_load(item) for item in value)
        return yaml.safe_load(value)
    except yaml.YAMLError as error:
        raise ConfigError(f"command line: --{dotted} {value}: {' '.join(str(error).split())}") from error
