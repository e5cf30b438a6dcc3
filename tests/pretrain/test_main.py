"""The command line of small base agents: what it takes, and what it refuses in one line."""

from __future__ import annotations

from pathlib import Path

import pytest

from atlas_ray.pretrain.__main__ import main, parser, settings_of


def test_environments_come_from_a_configuration_or_from_the_command_line(tmp_path: Path) -> None:
    config = tmp_path / "run.yaml"
    config.write_text(
        "environments: {textcraft: {depths: [1], distractors: 4}, maze: {layout: random}}\n"
        "collect: {trajectories: {textcraft: 80, babyai: 45}}\n"
    )

    def settings(*words: str) -> dict[str, object]:
        return settings_of(parser().parse_args(["--out", "m", "--threads", "1", *words]))

    of_config = {"textcraft": {"depths": [1], "distractors": 4}, "babyai": {}}
    assert settings("--config", str(config)) == {
        "tasks": {"textcraft": 80, "babyai": 45}, "options": of_config, "threads": 1,
    }  # fmt: skip
    given = settings("--config", str(config), "--environments", "maze", "--tasks", "7", "--parameters", "10M")
    assert given == {"tasks": {"maze": 7}, "options": {"maze": {"layout": "random"}}, "threads": 1,
                     "parameters": 10_000_000}  # fmt: skip
    levels = settings("--environments", "babyai", "--options", "babyai: {levels: [20]}")
    assert levels["options"] == {"babyai": {"levels": [20]}}


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        ((), "no environment is named"),
        (("--environments", "maz"), "there is no environment 'maz'; did you mean 'maze'?"),
        (("--environments", "maze", "--tasks", "5000"), "maze: 5000 tasks asked for, it has 1"),
        (("--environments", "maze", "--tasks", "0"), "maze: 0 tasks asked for"),
        (("--environments", "maze", "--options", "maze: {layout: round}"), "layout is 'round'"),
        (("--environments", "maze", "--options", "babyai: {levels: [1]}"), "'babyai' is none of the environments"),
        (("--environments", "maze", "--options", "[1"), "--options [1: no valid YAML"),
        (("--environments", "maze", "--parameters", "3G"), "--parameters 3G: give a number from 500000"),
        (("--environments", "maze", "--parameters", "3"), "--parameters 3: give a number from 500000"),
        (("--environments", "maze", "--family", "gpt"), "argument --family: invalid choice: 'gpt'"),
        (("--environments", "maze", "--epochs", "0"), "--epochs: Input should be greater than 0, found 0"),
        (("--environments", "maze", "--max-minutes", "0"), "--max-minutes: Input should be greater than 0"),
        (("--environments", "maze", "--epoch", "3"), "unrecognized arguments: --epoch 3"),
        (("--config", "none.yaml"), "config none.yaml: No such file or directory"),
    ],
)
def test_nonsense_is_refused_in_one_line(
    words: tuple[str, ...], problem: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as exit:
        main(["--out", str(tmp_path / "model"), *words])
    said = capsys.readouterr().err
    assert exit.value.code == 2
    assert said.count("\n") == 1
    assert problem in said
    assert not list(tmp_path.iterdir())
