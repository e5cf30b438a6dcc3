"""How long the command takes to answer: importing the package, and the help of `atlas-ray` and of a command.

Every figure is the median over fresh processes, bytecode compiled before. The import is as `python -X importtime`
counts it. Helps are the CPU time of whole processes, the interpreter's own start (the peer) in it: they use one thread
and read files that are in memory, so it is the time that one waits on a quiet machine, whatever else runs now.
"""

from __future__ import annotations

import resource
import statistics
import subprocess
import sys
from collections.abc import Callable, Sequence

from benchmarks.result import Result, asked, parser_for, publish

ROUNDS = 11
_MAIN = "from atlas_ray.cli.main import main; main({})"


def _run(code: str, *options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, *options, "-c", code], capture_output=True, text=True)


def _median(measure: Callable[[], float]) -> float:
    measure()  # compiles, and brings the files into memory
    return statistics.median(measure() for _ in range(ROUNDS))


def _cpu_s(code: str) -> float:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = _run(code)
    assert done.returncode == 0, done.stderr
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def imported() -> Result:
    """`import atlas_ray`."""

    def measure() -> float:
        lines = [line for line in _run("import atlas_ray", "-X", "importtime").stderr.splitlines() if "|" in line]
        (ours,) = (line for line in lines if line.split("|")[2].strip() == "atlas_ray")
        return int(ours.split("|")[1]) / 1000

    return Result("import of atlas_ray", "-", _median(measure), "ms", 150.0, at_least=False)


def _help(claim: str, words: Sequence[str]) -> Result:
    value = _median(lambda: _cpu_s(_MAIN.format(list(words))))
    bare = _median(lambda: _cpu_s("pass"))
    return Result(
        claim, "python -c pass", value, "s", 0.4, at_least=False, detail=f"the interpreter alone {bare:.3f} s"
    )


CLAIMS: dict[str, Callable[[], Result]] = {
    "import": imported,
    "help": lambda: _help("atlas-ray --help", ["--help"]),
    "train": lambda: _help("atlas-ray train --help", ["train", "--help"]),
}


def main() -> None:
    """Measure and publish."""
    publish("start", [CLAIMS[name]() for name in asked(parser_for("start", __doc__), CLAIMS).claims])


if __name__ == "__main__":
    main()
