"""Environments by name: entry points of ours and of other packages, any working directory, versions for keys."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import gymnasium
import pytest

from atlas_ray.environments import card, make, names, option_names, register, registry
from atlas_ray.errors import ConfigError
from tests.conftest import ROOT

FOURTEEN = (
    "academia", "alfworld", "babyai", "jericho", "maze", "movie", "pddl", "scienceworld", "sheet", "textcraft", "todo",
    "weather", "webshop", "wordle",
)  # fmt: skip


def python(arguments: list[str], folder: Path, path: Path | None = None) -> str:
    """What another interpreter prints, started in `folder`; `path` is its PYTHONPATH."""
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    environment |= {"PYTHONPATH": str(path)} if path is not None else {}
    run = subprocess.run(
        [sys.executable, *arguments], cwd=folder, env=environment, capture_output=True, text=True, timeout=300
    )
    assert run.returncode == 0, run.stderr
    return run.stdout


def test_unknown_names_and_options_are_named() -> None:
    with pytest.raises(ConfigError, match="no environment 'maz'; did you mean 'maze'.* academia, .*, wordle"):
        make("maz")
    with pytest.raises(ConfigError, match="'maze' has no option 'size'; it takes layout, max_rounds"):
        make("maze", size=3)
    with pytest.raises(ConfigError, match="'maze' has no option 'size'; it takes layout, max_rounds"):
        gymnasium.make("atlas/maze-v0", size=3)
    with pytest.raises(ConfigError, match="max_rounds is 0"):
        make("maze", max_rounds=0)
    assert option_names("atlas/wordle-v0") == ["max_rounds", "strict", "vocabulary"]
    assert card("babyai", levels=[1, 2]).n_test == 200
    with pytest.raises(ConfigError, match="already registered"):
        register("maze", "somewhere:Else")
    assert set(names()) >= set(FOURTEEN)


# -- any working directory, any package -------------------------------------------------------------------------------

PLAY_ALL = """
import gymnasium
from atlas_ray.environments import names
from atlas_ray.environments.process import EngineProcess
import envs
assert envs.WHOSE == "the user's"
for name in names():
    made = gymnasium.make(f"atlas/{name}-v0").unwrapped
    assert type(made).__module__ == f"envs.{name}.env"
    if not made.card.isolated:
        made.reset()
        made.step("look")
engine = EngineProcess("envs.jericho.engine:StoryEngine")
engine.start()
engine.close()
print(*names())
"""


@pytest.mark.parametrize(
    ("shape", "arguments"),
    [("envs/__init__.py", ["-c", PLAY_ALL]), ("envs/__init__.py", ["-m", "program"]), ("envs.py", ["program.py"])],
    ids=["package-c", "package-m", "module-file"],
)
def test_a_folder_with_envs_of_its_own_does_not_hide_the_fourteen(
    tmp_path: Path, shape: str, arguments: list[str]
) -> None:
    own = tmp_path / shape
    own.parent.mkdir(exist_ok=True)
    own.write_text('WHOSE = "the user\'s"\n')
    (tmp_path / "program.py").write_text(PLAY_ALL)
    assert python(arguments, tmp_path).split() == list(FOURTEEN)


def test_an_installed_package_adds_an_environment(tmp_path: Path) -> None:
    described = tmp_path / "boats-1.dist-info"
    described.mkdir()
    (described / "METADATA").write_text("Metadata-Version: 2.1\nName: boats\nVersion: 1\n")
    (described / "entry_points.txt").write_text("[atlas_ray.environments]\nboat = boats:BoatEnv\n")
    (tmp_path / "boats.py").write_text("from envs.maze.env import MazeEnv\n\n\nclass BoatEnv(MazeEnv):\n    pass\n")
    code = (
        "import gymnasium, sys, envs\nassert 'boats' not in sys.modules\n"
        "made = gymnasium.make('atlas/boat-v0').unwrapped\n"
        "made.reset()\nprint(type(made).__name__, made.step('move up')[2])"
    )
    assert python(["-c", code], ROOT, tmp_path).split() == ["BoatEnv", "False"]


def test_no_environment_loads_ray_or_torch() -> None:
    code = (
        "import sys\nfrom atlas_ray.environments import names, registry\nnames()\n"
        "assert not any(module.startswith('envs.') for module in sys.modules)\n"
        "for name in names():\n    registry.card(name)\n"
        "print(*sorted({'ray', 'torch', 'transformers'} & set(sys.modules)))"
    )
    assert python(["-c", code], ROOT).split() == []


# -- versions ---------------------------------------------------------------------------------------------------------


PROBLEM = """(define (problem two) (:domain gripper)
  (:objects a b - room x - ball g - gripper)
  (:init (at-robby a) (at x a) (free g))
  (:goal (and (at x b))))
"""


def words(path: Path, *more: str) -> Path:
    """A vocabulary for Wordle."""
    path.write_text("\n".join(["crane", "slate", "pious", "mango", "fight", *more]) + "\n")
    return path


def test_a_version_counts_options_and_the_content_of_files(tmp_path: Path) -> None:
    plain = registry.version("wordle", {})
    assert plain == registry.version("wordle", {})
    assert plain != registry.version("wordle", {"strict": True})
    assert plain != registry.version("maze", {})
    (tmp_path / "elsewhere").mkdir()
    first, second = words(tmp_path / "words.txt"), words(tmp_path / "elsewhere" / "other.txt")
    before = registry.version("wordle", {"vocabulary": str(first)})
    assert before != plain
    assert before == registry.version("wordle", {"vocabulary": second})
    words(first, "quilt")
    assert before != registry.version("wordle", {"vocabulary": str(first)})


def test_a_version_counts_names_sizes_and_times_in_a_folder(tmp_path: Path) -> None:
    problems = tmp_path / "problems"
    problems.mkdir()
    options = {"domain": str(ROOT / "envs" / "pddl" / "domains" / "gripper.pddl"), "problems": str(problems)}
    problem = problems / "p1.pddl"
    problem.write_text(PROBLEM)
    before = registry.version("pddl", options)
    assert before == registry.version("pddl", options)
    (problems / "p2.pddl").write_text(PROBLEM)
    grown = registry.version("pddl", options)
    assert grown != before
    os.utime(problem, ns=(1, 1))
    assert registry.version("pddl", options) not in (before, grown)


def test_a_version_counts_the_cards_own(monkeypatch: pytest.MonkeyPatch) -> None:
    before, made = registry.version("maze", {}), registry.card("maze")
    monkeypatch.setattr(registry, "card", lambda name, **options: made.model_copy(update={"version": made.version + 1}))
    assert registry.version("maze", {}) != before


def test_of_a_large_file_the_time_of_the_last_change_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "MAX_HASHED_BYTES", 10)
    path = words(tmp_path / "words.txt")
    before = registry.version("wordle", {"vocabulary": str(path)})
    os.utime(path, ns=(1, 1))
    assert registry.version("wordle", {"vocabulary": str(path)}) != before


AT_ONCE = """
import sys, threading
from concurrent.futures import ThreadPoolExecutor
import gymnasium
from atlas_ray.environments import registry
known = registry.names()
sys.setswitchinterval(1e-6)
for _ in range(30):
    for name in known:
        del gymnasium.registry[f"atlas/{name}-v0"]
    registry._CLASSES.clear()
    registry.discover.cache_clear()
    start = threading.Barrier(8)
    def discover():
        start.wait()
        registry.discover()
    with ThreadPoolExecutor(8) as pool:
        for done in [pool.submit(discover) for _ in range(8)]:
            done.result()
print(registry.names() == known)
"""


def test_threads_may_look_for_environments_at_once(tmp_path: Path) -> None:
    assert python(["-c", AT_ONCE], tmp_path) == "True\n"
