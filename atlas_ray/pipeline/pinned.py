"""A run keeps to the commits that it began with: `hub.json` in its directory says which commit each reference means.

Pinned are the base model and the files that the configuration names (`collect.source`, `evaluate.items`,
`evaluate.instructions`). `config.yaml` keeps the references as they were given; keys, manifests and workers see the
commits. Other models of the Hub, which a run only evaluates or scores with, are known by their content.
"""

from __future__ import annotations

from atlas_ray import hub, models
from atlas_ray.config import PipelineConfig
from atlas_ray.errors import HubError, StoreError
from atlas_ray.progress import say
from atlas_ray.store import Store

FILE = "hub.json"


def pinned(config: PipelineConfig, store: Store, *, asks: bool = True) -> PipelineConfig:
    """The configuration with a commit in every reference to the Hub; what is new is asked of the Hub and recorded.

    Args:
        config: as it was given.
        store: the run directory, or that of an experiment, whose runs share their commits.
        asks: without it a reference that is not recorded stays as it is.

    Raises:
        HubError: the Hub does not have a repository or revision, or cannot be asked.
        StoreError: `hub.json` is malformed, or cannot be written.
    """
    known = store.read_json(FILE) if store.exists(FILE) else {}
    if not isinstance(known, dict) or not all(isinstance(each, str) for each in known.values()):
        raise StoreError(f"{store.path(FILE)}: expected references and their commits; delete it, or restore it")
    before = dict(known)

    def commit(option: str, reference: str) -> str:
        if not asks:
            return str(known.get(reference, reference))
        if reference not in known:
            try:
                known[reference] = hub.pinned(reference)
            except HubError as error:
                raise HubError(f"{option} {reference.removeprefix(hub.SCHEME)}: {error}") from error
            say(f"{option} is {known[reference]}")
        return str(known[reference])

    def source(option: str, given: str | None) -> str | None:
        return commit(option, given) if given is not None and given.startswith(hub.SCHEME) else given

    model = config.model
    if models.is_on_hub(model):
        model = commit("model", models.reference(model)).removeprefix(hub.SCHEME)
    collect = config.collect.model_copy(update={"source": source("collect.source", config.collect.source)})
    evaluate = config.evaluate.model_copy(
        update={name: source(f"evaluate.{name}", getattr(config.evaluate, name)) for name in ("items", "instructions")}
    )
    if known != before:
        store.write_json(known, FILE)
    return config.model_copy(update={"model": model, "collect": collect, "evaluate": evaluate})


def facts(*, model: str | None = None, **sources: str | None) -> dict[str, dict[str, str]]:
    """For a manifest: which of a pinned configuration's model and sources, by their names, are read from the Hub."""
    read = {use: source for use, source in sources.items() if source and source.startswith(hub.SCHEME)}
    if model and models.is_on_hub(model):
        read["model"] = model
    return {"hub": read} if read else {}
