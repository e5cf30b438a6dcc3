"""Components of this and of other packages, by name."""

from __future__ import annotations

import pytest

from atlas_ray import plugins
from atlas_ray.errors import ConfigError


def test_ours_are_entry_points_as_a_strangers_are():
    assert len(set(plugins.names(plugins.ENVIRONMENTS)) - {"faulty", "counting"}) == 14
    assert {"all", "hybrid", "llm", "non_critical", "perplexity", "random", "value"} <= set(
        plugins.names(plugins.SELECTION_METHODS)
    )


def test_an_unknown_name_is_answered_with_the_nearest():
    with pytest.raises(ConfigError, match="no 'perplexty'; did you mean 'perplexity'"):
        plugins.load(plugins.SELECTION_METHODS, "perplexty")


def test_a_package_that_cannot_be_imported_is_named():
    with pytest.raises(ConfigError, match=r"'x': no_such_package:Method cannot be imported \(ModuleNotFoundError"):
        plugins.load_value("no_such_package:Method", "'x'")


def test_an_empty_group_says_that_the_package_is_not_installed():
    with pytest.raises(ConfigError, match="not installed"):
        plugins.names("atlas_ray.nothing")
