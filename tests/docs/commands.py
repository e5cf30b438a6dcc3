"""The command lines of the documents: which there are, and a check of each by the parser that will read it.

Commands of ours, of Ray and of make are parsed; of other programs only the files that they name are looked for. Nothing
is run here.
"""

from __future__ import annotations

import importlib.util
import re
import runpy
import shlex
import sys
from argparse import ArgumentParser
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

import click
from ray.scripts.scripts import cli as ray_cli

from atlas_ray.cli import commands, options
from atlas_ray.config_files import read_yaml
from tests.conftest import ROOT

DOCUMENTS = (
    "*.md", "docs/**/*.md", "envs/*/README.md", "configs/**/*.yaml", "cluster.yaml", "deploy/**/*.yaml",
    "deploy/*.sbatch", "deploy/Dockerfile", "atlas_ray/cli/templates/**/*.in",
)  # fmt: skip
LANGUAGES = {"bash", "text", "yaml", "python", "toml", "json"}
"""What a block of code in a document may be; commands are in blocks of `bash`."""
OTHERS = {
    "bash", "buildah", "cd", "docker", "eval", "export", "grafana-server", "jupyter-execute", "kubectl", "prometheus",
    "pytest", "sbatch", "vllm",
}  # fmt: skip
"""Programs that are not ours to parse for."""
_FOLDERS = ("benchmarks", "configs", "deploy", "docs", "envs", "jobs", "requirements", "tests")
_FENCE = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
_COMMENT = re.compile(r"^# {2,}(\S.*)$", re.MULTILINE)


class Line(NamedTuple):
    """A simple command of a document."""

    file: str
    text: str

    @property
    def words(self) -> list[str]:
        """Program and arguments, without assignments to variables before them."""
        words = shlex.split(self.text)
        while words and re.match(r"[A-Z_]+=", words[0]):
            words.pop(0)
        return words


def documents() -> list[Path]:
    """Every file whose commands are checked."""
    return sorted({file for pattern in DOCUMENTS for file in ROOT.glob(pattern)})


def blocks(file: Path) -> list[tuple[str, str]]:
    """Language and text of the blocks of code in a Markdown document."""
    return _FENCE.findall(file.read_text())


def lines() -> list[Line]:
    """All simple commands, each once a document."""
    return sorted({Line(str(file.relative_to(ROOT)), text) for file in documents() for text in _simple(_code(file))})


def _code(file: Path) -> str:
    """The commands of a document; in files that are no Markdown they are comments, set in by two spaces or more."""
    if ".md" in file.suffixes or file.suffix == ".md":
        return "\n".join(text for language, text in blocks(file) if language == "bash")
    joined = file.read_text().replace("\\\n#", " ")
    return "\n".join(line for line in _COMMENT.findall(joined) if re.match(r"[A-Za-z_.]", line))


def _simple(code: str) -> Iterator[str]:
    """The simple commands of a script: split at `&&`, `;` and `|`, with those inside `$(...)`; a loop's first round."""
    for name, value in re.findall(r"for (\w+) in (\S+)", code):
        code = code.replace(f"${name}", value)
    for line in code.replace("\\\n", " ").splitlines():
        reader = shlex.shlex(line, posix=True, punctuation_chars="();|&")
        reader.whitespace_split = True
        words: list[str] = []
        for word in [*reader, ";"]:
            yield from _simple("\n".join(re.findall(r"\$\((.*)\)", word)))
            if set(word) <= set("();|&"):
                if words and words[0] not in ("for", "do", "done"):
                    yield shlex.join(words)
                words = []
                if word == "(":
                    break
            else:
                words.append(word)


# --- checks ----------------------------------------------------------------------------------------------------------
def check(line: Line) -> None:
    """Fail unless the command can be read by the program that it names, and the project's files in it are there."""
    program, *rest = line.words
    name = Path(program).name
    for word in rest:
        if word.startswith(tuple(f"{folder}/" for folder in _FOLDERS)) and not re.search(r"[*<>$]", word):
            assert (ROOT / word).exists(), f"{line.file}: there is no {word}"
    if name == "atlas-ray":
        ours(rest)
    elif name == "python":
        python(rest)
    elif name == "make":
        targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
        given = dict(word.split("=", 1) for word in rest if "=" in word)
        assert {word for word in rest if "=" not in word} <= set(targets)
        ours(["serve" if "serve" in rest else "pipeline", *shlex.split(given.get("ARGS", ""))])
    elif name == "ray":
        rays(rest)
    elif name == "pip":
        extras = {extra for word in rest for found in re.findall(r"\[([\w,]+)\]", word) for extra in found.split(",")}
        assert extras <= set(re.findall(r"^(\w+) = \[", (ROOT / "pyproject.toml").read_text(), re.MULTILINE))
    else:
        assert name in OTHERS, f"{line.file}: say in {__name__} how commands of {name!r} are checked"


def ours(words: list[str]) -> None:
    """A command of `atlas-ray`; a configuration that it names is read unless it is the reader's own."""
    name, *rest = words
    if name.startswith("-"):
        assert name in ("--help", "--version")
        return
    assert name in commands.names(), f"no command {name!r}"
    command = commands.load(name)
    if not command.sections:
        command.parser().parse_args(rest)
    elif (topic := options.asked_help(rest)) is not None:
        assert topic.isupper() or options.help_text(command, topic)
    else:
        _, chosen = options.parse(command.parser(), rest)
        if chosen.config and not chosen.config.startswith(("my", "FILE", "runs/")):
            assert read_yaml(chosen.config)


def python(words: list[str]) -> None:
    """A script or a module; of a module that has a parser, its own reads the arguments."""
    first, *rest = words
    if first == "-m" and rest[0] in ("pytest", "mkdocs"):
        return
    if first == "-m":
        module, *arguments = rest
        spec = importlib.util.find_spec(module)
        assert spec is not None, f"no module {module}"
        if module.startswith("benchmarks."):  # importing one brings torch and Ray along: its options are looked for
            text = "".join((ROOT / "benchmarks" / name).read_text() for name in (f"{module[11:]}.py", "result.py"))
            assert all(f'"{word}"' in text for word in arguments if word.startswith("--"))
        elif arguments:
            parsed_by(module, arguments)
    elif first.startswith("jobs/"):
        ours([Path(first).stem, *rest])
    else:
        assert (ROOT / first).is_file()


class Parsed(Exception):
    """The arguments are good."""


def parsed_by(module: str, arguments: list[str]) -> None:
    """Start a module as `python -m` does, up to where its parser has read the arguments."""
    original = ArgumentParser.parse_args

    def parse_args(self: Any, args: Any = None, namespace: Any = None) -> None:
        original(self, args, namespace)
        raise Parsed

    with mock.patch.object(ArgumentParser, "parse_args", parse_args), mock.patch.object(sys, "argv", ["", *arguments]):
        try:
            runpy.run_module(module, run_name="__main__")
        except Parsed:
            return
    raise AssertionError(f"{module} parses no arguments")


def rays(words: list[str]) -> None:
    """A command of Ray's; what it hands on to a cluster is a command of its own."""
    command: click.Command = ray_cli
    while isinstance(command, click.Group):
        found = command.get_command(click.Context(command), words.pop(0))
        assert found is not None, f"ray has no such command: {words}"
        command = found
    context = command.make_context(command.name, words)
    handed = context.params.get("entrypoint") or shlex.split(context.params.get("cmd") or "")
    if context.params.get("script"):
        handed = ["python", context.params["script"], *context.params["script_args"]]
    for text in _simple(shlex.join(handed)):
        check(Line("ray", text))
