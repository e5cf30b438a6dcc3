"""The Hugging Face Hub: which commit a reference means, its files in the local cache, and sending files.

A reference is `hf://owner/name[@revision]` for a model and `hf://datasets/owner/name[@revision][/path]` for data, as
huggingface_hub parses it. Endpoint, cache and token are huggingface_hub's own (`HF_ENDPOINT`, `HF_HOME`, `HF_TOKEN` or
`hf auth login`); the token is neither shown nor stored. Which references a run reads is in `pipeline/pinned.py`, what
is sent of a run in `pipeline/push.py`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from atlas_ray.errors import HubError

if TYPE_CHECKING:
    from huggingface_hub import HfUri

SCHEME = "hf://"
DATASETS = f"{SCHEME}datasets/"
Kind = Literal["model", "dataset"]


def parse(reference: str) -> HfUri:
    """Kind, id, revision and path of a reference.

    Raises:
        HubError: it is malformed, or names neither a model nor a data set.
    """
    from huggingface_hub import parse_hf_uri
    from huggingface_hub.errors import HfUriError

    try:
        uri = parse_hf_uri(reference)
    except HfUriError as error:
        raise HubError(f"not a reference to the Hub; write {DATASETS}OWNER/NAME[@REVISION][/PATH]") from error
    if uri.type not in ("model", "dataset"):
        raise HubError(f"a {uri.type} on the Hub; give a data set, as {DATASETS}OWNER/NAME, or a model")
    return uri


def pinned(reference: str) -> str:
    """The reference with the commit that it means now, which is asked of the Hub unless it has one already.

    Raises:
        HubError: there is no such repository or revision, or the Hub cannot be asked and the cache does not know.
    """
    from huggingface_hub import HfApi

    uri = parse(reference)
    with _one_line("read"):
        commit = HfApi().resolve_revision(uri.id, repo_type=uri.type, revision=uri.revision).resolved
    kind = "datasets/" if uri.type == "dataset" else ""
    return f"{SCHEME}{kind}{uri.id}@{commit}{uri.path_in_repo and f'/{uri.path_in_repo}'}"


def fetch(reference: str, patterns: Sequence[str]) -> Path:
    """The folder in the cache with a repository's files; those that are not there yet are downloaded.

    Nothing is asked of the Hub for a commit whose files are all there.

    Args:
        reference: its path does not count.
        patterns: of the files that are wanted, as fnmatch takes them (`*` crosses folders).

    Raises:
        HubError: a repository, revision or file cannot be had.
    """
    from huggingface_hub import snapshot_download

    uri = parse(reference)
    with _one_line("read"):
        return Path(snapshot_download(uri.id, repo_type=uri.type, revision=uri.revision, allow_patterns=list(patterns)))


@dataclass(frozen=True)
class Sent:
    """What a repository holds after files were sent."""

    url: str
    """Of the commit."""
    is_new: bool
    """Whether there was anything to send."""


def send(
    repository: str, kind: Kind, files: Mapping[str, Path | bytes], *, private: bool, replaces: Sequence[str]
) -> Sent:
    """Make files the content of a repository, in one commit; the repository is created if need be.

    Files that the repository has already are not sent, large ones not even when a push before was cut off.

    Args:
        repository: `owner/name`.
        kind: of repository.
        files: local files, or contents, by their path in the repository.
        private: whether a new repository is private; one that exists stays as it is.
        replaces: patterns of files that are deleted there unless they are among `files`.

    Raises:
        HubError: there is no token, it has no rights, or the Hub cannot be reached.
    """
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi, get_token

    if get_token() is None:
        raise HubError(f"{repository}: no token; set HF_TOKEN to one with write rights, or run `hf auth login`")
    api = HfApi()
    with _one_line("write", repository):
        api.create_repo(repository, repo_type=kind, private=private, exist_ok=True)
        before = api.repo_info(repository, repo_type=kind)
        there = api.list_repo_files(repository, repo_type=kind, revision=before.sha)
        stale = [name for name in there if name not in files and any(fnmatch(name, each) for each in replaces)]
        commit = api.create_commit(
            repository,
            [*(CommitOperationDelete(name) for name in stale),
             *(CommitOperationAdd(name, content) for name, content in sorted(files.items()))],
            commit_message="Push by atlas-ray", repo_type=kind, parent_commit=before.sha,
        )  # fmt: skip
    return Sent(commit.commit_url, commit.oid != before.sha)


@contextmanager
def _one_line(rights: str, repository: str = "") -> Iterator[None]:
    """Turn whatever huggingface_hub raises into a `HubError` that says what to do."""
    import httpx2
    from huggingface_hub.errors import RevisionResolutionError

    try:
        yield
    except (httpx2.HTTPError, RevisionResolutionError, OSError, ValueError) as error:
        raise HubError(f"{repository}: {_said(error, rights)}".removeprefix(": ")) from error


def _said(error: BaseException, rights: str) -> str:
    from huggingface_hub import constants, errors

    cause = error.__cause__
    if isinstance(error, errors.LocalEntryNotFoundError | errors.RevisionResolutionError) and isinstance(
        cause, errors.HfHubHTTPError
    ):
        return _said(cause, rights)
    if isinstance(error, errors.GatedRepoError):
        return (
            f"its owner grants access one by one; ask for it on its page at {constants.ENDPOINT}, and set HF_TOKEN to "
            "a token of that account"
        )
    if isinstance(error, errors.RepositoryNotFoundError):
        return "no such repository, or a private one; check the name, or set HF_TOKEN to a token that may see it"
    if isinstance(error, errors.RevisionNotFoundError):
        return "no such revision; give a branch, a tag or a commit of the repository"
    if isinstance(error, errors.HfHubHTTPError):
        status, said = error.response.status_code, _without_token(error.server_message or "")
        if status in (401, 403):
            return f"the Hub refuses ({status}{said}); set HF_TOKEN to a token with rights to {rights} there"
        if status == 429:
            return "the Hub has had too many requests (429); wait some minutes, or set HF_TOKEN"
        return f"the Hub answers {status}{said}; try again later"
    if isinstance(error, ValueError) and not isinstance(error, OSError):
        return f"refused{_without_token(str(error))}; correct it"
    if constants.HF_HUB_OFFLINE:
        return "not in the local cache, and HF_HUB_OFFLINE forbids to ask the Hub; unset it, or give a local path"
    if isinstance(error, OSError) and error.strerror:
        return f"{error.strerror} ({error.filename or constants.HF_HUB_CACHE}); HF_HOME says where the cache is"
    return f"{constants.ENDPOINT} cannot be reached; check the network and HF_ENDPOINT, or give a local path"


def _without_token(text: str) -> str:
    """What a server or a check has to say, on one line behind a colon; a token in it is left out."""
    from huggingface_hub import get_token

    token = get_token()
    line = " ".join((text.replace(token, "...") if token else text).split())[:300]
    return f": {line}" if line else ""
