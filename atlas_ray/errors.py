"""Errors that a user can act on, named after the part that failed.

An `AtlasError` carries one line: what is wrong, where, and what to do. The jobs print that line and exit with code 2.
A bad row, episode or answer is not raised to the user: it is recorded as data with its error.
"""

from __future__ import annotations


class AtlasError(Exception):
    """Base of every error that a user can correct; its text is one line."""


class ConfigError(AtlasError):
    """The configuration, or a command-line option, is wrong."""


class DataError(AtlasError):
    """An input file is missing or malformed; the text names file, row and field."""


class HubError(AtlasError):
    """The Hugging Face Hub does not have, give or take something."""


class ModelError(AtlasError):
    """A model directory, tokenizer or chat template cannot be used."""


class EnvironmentError(AtlasError):
    """An environment was misused or its engine died; the text names environment and task."""


class SelectionError(AtlasError):
    """A selection method cannot run on these trajectories."""


class EndpointError(AtlasError):
    """An OpenAI-compatible endpoint cannot be used (wrong key, unknown model, out of reach)."""


class BudgetError(AtlasError):
    """The budget is spent; every answer so far is kept."""


class EngineError(AtlasError):
    """An inference engine did not start or died."""


class TrainingError(AtlasError):
    """Training cannot start or had to stop."""


class StoreError(AtlasError):
    """The run directory cannot be read or written, or belongs to another experiment."""


class ClusterError(AtlasError):
    """Ray does not answer or lacks resources."""
