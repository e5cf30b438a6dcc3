"""What a command of `atlas-ray` is, and how one is called: the same function that `jobs/<name>.py` calls.

A command that works on a run takes `--config FILE` and every dotted option (`options.py`); the others take arguments
of their own. An error that the user can mend is one line and exit code 2 (`guarded`). Which commands there are is in
`commands/`; what they print is theirs. Importing this module brings neither ray nor the configuration along.
"""

from __future__ import annotations

import os
import re
import sys
from argparse import ArgumentParser, Namespace, RawDescriptionHelpFormatter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cached_property
from typing import TYPE_CHECKING, Any, NoReturn

from atlas_ray.errors import AtlasError, ConfigError

if TYPE_CHECKING:
    from atlas_ray.config import PipelineConfig
    from atlas_ray.pipeline.run import Run

PROGRAM = "atlas-ray"
_INVALID = re.compile(r"invalid choice: '(?P<given>[^']*)' \(choose from (?P<known>.*)\)")
"""What argparse says of a word that is none of its choices."""


class Request:
    """What a command line asks for.

    Args:
        options: the command's own options.
        overrides: the options of the configuration that were given, by dotted name.
    """

    def __init__(self, options: Namespace, overrides: dict[str, Any]) -> None:
        self.options, self.overrides = options, overrides

    @cached_property
    def config(self) -> PipelineConfig:
        """The configuration: the file of `--config` with the given options over it; `config.load` has its errors."""
        from atlas_ray.config_files import load

        return load(self.options.config, self.overrides)

    def run(self, *, ray: bool = True, hub: bool = True) -> Run:
        """Claim the run directory, and join or start Ray.

        Args:
            ray: whether the command needs it.
            hub: whether the command may ask the Hugging Face Hub.

        Raises:
            ConfigError: as `config.load`.
            ClusterError: nothing answers at `RAY_ADDRESS`, or Ray refuses.
            HubError: the Hub does not have what the configuration names, or cannot be asked.
            StoreError: the run directory belongs to another experiment, or cannot be written.
        """
        from atlas_ray.cluster import check_address, connect
        from atlas_ray.pipeline.run import open_run

        config = self.config
        if ray:
            check_address(os.environ.get("RAY_ADDRESS"))  # before anything is written
        run = open_run(config, asks=hub)
        if ray:
            connect()
        return run


def _nothing(parser: ArgumentParser) -> None:
    """Of a command without arguments of its own."""


@dataclass(frozen=True)
class Command:
    """One command of `atlas-ray`."""

    name: str
    about: str
    """What it does; the first line stands in the list of commands."""
    examples: tuple[str, ...]
    """Command lines, as one types them."""
    work: Callable[[Request], None]
    sections: tuple[str, ...] = ()
    """Sections of the configuration that it reads, as its help lists them; empty: it takes no configuration."""
    arguments: Callable[[ArgumentParser], None] = _nothing
    """Adds its own arguments to a parser."""

    @property
    def summary(self) -> str:
        """The first line of `about`, without its full stop."""
        return self.about.strip().splitlines()[0].removesuffix(".")

    def parser(self) -> Parser:
        """A parser of the command's own arguments alone."""
        examples = "\n".join(f"  {line}" for line in self.examples)
        parser = Parser(
            prog=f"{PROGRAM} {self.name}", description=self.about.strip(), epilog=f"example:\n{examples}",
            add_help=not self.sections,
        )  # fmt: skip
        self.arguments(parser)
        return parser


class Parser(ArgumentParser):
    """argparse's, whose errors are ours: one line, no usage text."""

    def __init__(self, **options: Any) -> None:
        options.setdefault("formatter_class", formatter)
        super().__init__(**({"allow_abbrev": False} | options))

    def error(self, message: str) -> NoReturn:
        if found := _INVALID.search(message):
            close = get_close_matches(found["given"], re.findall(r"'([^']*)'", found["known"]), 1)
            message += f"; did you mean {close[0]!r}?" if close else ""
        raise ConfigError(f"command line: {message}; see {self.prog} --help")


def formatter(prog: str) -> RawDescriptionHelpFormatter:
    """How help is laid out: in 110 columns, texts as they are written."""
    return RawDescriptionHelpFormatter(prog, max_help_position=44, width=110)


def call(command: Command, argv: Sequence[str]) -> None:
    """Do what the arguments after the command's name ask for.

    Raises:
        AtlasError: whatever the user can mend.
        SystemExit: 0 after `--help`.
    """
    if not command.sections:
        command.work(Request(command.parser().parse_args(argv), {}))
        return
    from atlas_ray.cli import options  # brings the configuration along

    if (topic := options.asked_help(argv)) is not None:
        print(options.help_text(command, topic), end="")
        sys.exit(0)
    overrides, chosen = options.parse(command.parser(), argv)
    command.work(Request(chosen, overrides))


def guarded(work: Callable[[], None]) -> None:
    """Call `work`; exits with code 2 and one line on any `AtlasError`, wherever in the cluster it was raised, and where
    Ray lost a process, a node or an object that the work cannot do without."""
    try:
        work()
    except AtlasError as error:
        _stop(error)
    except Exception as error:
        ours = _ours_behind(error)
        if ours is None:
            raise
        _stop(ours)
    finally:
        if lock := sys.modules.get("atlas_ray.pipeline.lock"):  # where the work has loaded it
            lock.release()


def _ours_behind(error: Exception) -> AtlasError | None:
    """The line that an error of Ray's has for the user, if any."""
    if "ray" not in sys.modules:
        return None
    from ray.exceptions import RayError

    from atlas_ray.cluster import behind, loss_behind

    if not isinstance(error, RayError):
        return None
    return next((each for each in behind(error) if isinstance(each, AtlasError)), None) or loss_behind(error)


def _stop(error: AtlasError) -> NoReturn:
    sys.stdout.flush()
    print(f"error: {' '.join(str(error).split())}", file=sys.stderr, flush=True)
    sys.exit(2)
