"""Completion of `atlas-ray` in bash and zsh, as a script with all names in it, so that a tab starts no Python.

Options of selection methods that other packages bring are in it too; make it again after installing one. Values are
completed where they are names: of configurations, of sections, else files.
"""

from __future__ import annotations

import shlex
from argparse import ArgumentParser, _SubParsersAction
from collections.abc import Iterator
from typing import Literal

from atlas_ray.cli import commands, options
from atlas_ray.cli.command import PROGRAM
from atlas_ray.config_files import shipped

Shell = Literal["bash", "zsh"]

_BASH = """\
_atlas_ray() {{
    local current=${{COMP_WORDS[COMP_CWORD]}} before=${{COMP_WORDS[COMP_CWORD - 1]}} found
    _atlas_ray_words "$COMP_CWORD" "${{COMP_WORDS[1]}}" "$before"
    COMPREPLY=($(compgen -W "$found" -- "$current"))
    [[ $current == -* || ${{#COMPREPLY[@]}} -gt 0 ]] || COMPREPLY=($(compgen -f -- "$current"))
}}
complete -F _atlas_ray {program}
"""
_ZSH = """\
_atlas_ray() {{
    local found
    _atlas_ray_words $((CURRENT - 1)) "$words[2]" "$words[CURRENT - 1]"
    compadd -- ${{=found}}
    [[ $PREFIX == -* ]] || _files
}}
compdef _atlas_ray {program}
"""
_WORDS = """\
_atlas_ray_words() {{  # place of the word, command, word before; sets found
    local configuration={configuration}
    case "$3" in
    --config) found={configs}; return ;;
    --help) found={sections}; return ;;
    esac
    if [ "$1" -eq 1 ]; then found={names}; return; fi
    case "$2" in
{cases}
    *) found="" ;;
    esac
}}
"""


def script(shell: Shell) -> str:
    """The completion of a shell: `eval "$(atlas-ray completion bash)"`."""
    cases = []
    for name in commands.names():
        command = commands.load(name)
        configuration = " $configuration" if command.sections else ""
        words = " ".join(_words(command.parser()))
        cases.append(f'    {name}) found="{words}{configuration}" ;;')
    dotted = [f"--{name}" for name in options.option_names()]
    common = ["--config", "--set", "--help"]
    body = _WORDS.format(
        configuration=shlex.quote(" ".join([*common, *dotted])), configs=shlex.quote(" ".join(shipped())),
        sections=shlex.quote(" ".join(["all", *options.section_names()])),
        names=shlex.quote(" ".join([*commands.names(), "--help", "--version"])), cases="\n".join(cases),
    )  # fmt: skip
    return body + {"bash": _BASH, "zsh": _ZSH}[shell].format(program=PROGRAM)


def _words(parser: ArgumentParser) -> Iterator[str]:
    """Options and choices of a parser and of its actions."""
    for action in parser._actions:
        yield from (each for each in action.option_strings if each.startswith("--"))
        yield from map(str, action.choices or ())
        if isinstance(action, _SubParsersAction):
            for inner in action.choices.values():
                yield from (word for word in _words(inner) if word != "--help")
