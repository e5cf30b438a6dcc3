"""The configuration: YAML, dotted overrides, and one line for what is wrong."""

from pathlib import Path

import pytest
import yaml

from atlas_ray.cli.options import parse_args
from atlas_ray.config import PipelineConfig
from atlas_ray.config_files import load
from atlas_ray.errors import ConfigError

CONFIGS = sorted((Path(__file__).parents[1] / "configs").glob("*.yaml"))


def test_defaults_are_the_papers():
    config = PipelineConfig()
    assert config.select.ratio == 0.3
    assert (config.train.learning_rate, config.train.epochs, config.train.batch_size) == (2e-5, 3, 128)
    assert (config.train.max_length, config.train.warmup_ratio, config.train.schedule) == (8192, 0.03, "cosine")
    assert config.train.warmup is None


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.name)
def test_shipped_configs_load(path):
    assert load(str(path)).run_dir


def test_overrides_reach_into_sections_lists_and_optional_sections(tmp_path):
    file = tmp_path / "c.yaml"
    file.write_text("train: {epochs: 2}\nenvironments: {textcraft: {depths: [1]}}\n")
    config = parse_args(
        ["--config", str(file), "--train.learning_rate", "1e-4", "--select.methods", "llm", "random",
         "--train.warmup.fraction", "0.25", "--evaluate.models", "base"],
    )  # fmt: skip
    assert (config.train.epochs, config.train.learning_rate) == (2, 1e-4)
    assert config.select.methods == ("llm", "random")
    assert config.train.warmup is not None
    assert config.train.warmup.fraction == 0.25
    assert config.evaluate.models == ("base",)
    assert config.environments == {"textcraft": {"depths": [1]}}


def test_what_is_written_is_read_back():
    config = load(None, {"train.warmup.fraction": 0.3, "environments": {"maze": {"layout": "random"}}})
    assert PipelineConfig.model_validate(yaml.safe_load(yaml.safe_dump(config.model_dump(mode="json")))) == config


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--train.lr", "1"], "unknown option '--train.lr'"),
        (["--train.epochs", "many"], "train.epochs: Input should be a valid integer"),
        (["--select.methods", "magic"], "select: selection 'magic': no such method"),
        (["--select.methods", "perplexty"], "did you mean 'perplexity'?"),
        (["--select.selections", "{a: {method: random, ratio: 2}}"], "select.selections.a.ratio"),
        (["--select.selections", "{a: {method: value, rolouts: 3}}"], "select.selections.a.rolouts: unknown option"),
        (["--select.selections", "{../a: {method: random}}"], "'../a' is no name"),
        (["--select.ratio", "0"], "select.ratio: Input should be greater than 0"),
        (["--config", "none.yaml"], "none.yaml: No such file"),
        (["--environments", "{a: ["], "--environments"),
    ],
)
def test_a_wrong_command_line_is_one_line(arguments, says):
    with pytest.raises(ConfigError) as error:
        parse_args(arguments)
    assert says in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("text", "says"),
    [("train: {lr: 1}", "train.lr: unknown option"), ("[1]", "expected a mapping"), ("a: [", "no valid YAML")],
)
def test_a_wrong_file_is_one_line(tmp_path, text, says):
    file = tmp_path / "c.yaml"
    file.write_text(text)
    with pytest.raises(ConfigError, match="c.yaml") as error:
        load(str(file))
    assert says in str(error.value)
    assert "\n" not in str(error.value)


def test_named_selections_take_the_sections_defaults_and_their_own_options():
    config = load(
        None,
        {
            "seed": 3, "select.ratio": 0.25, "select.value.rollouts": 4, "select.value.threshold": 0.2,
            "select.selections": {
                "tenth": {"method": "random", "ratio": 0.1},
                "critical": {"method": "value", "threshold": 0.05},
                "random": {"ratio": 0.5},
            },
        },
    )  # fmt: skip
    tenth, critical = config.selection("tenth"), config.selection("critical")
    assert (tenth.method, tenth.ratio, tenth.seed) == ("random", 0.1, 3)
    assert (critical.ratio, critical.options.rollouts, critical.options.threshold) == (0.25, 4, 0.05)
    assert config.selection("value").options.threshold == 0.2
    assert (config.selection("random").method, config.selection("random").ratio) == ("random", 0.5)
    with pytest.raises(ConfigError, match="did you mean 'critical'"):
        config.selection("critcal")


def test_fingerprints_leave_out_what_is_runtime_only():
    config = PipelineConfig()
    faster = load(None, {"train.workers": 4, "rollout.servers": 8, "run_dir": "elsewhere", "serve.port": 9})
    assert faster.fingerprint() == config.fingerprint()
    assert load(None, {"train.learning_rate": 1.0}).train.fingerprint() != config.train.fingerprint()
