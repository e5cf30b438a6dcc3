"""A tokenizer made for a few environments: byte-level BPE over their texts, with a ChatML template.

Digits are tokens of their own, so that positions and counts can be compared and copied digit by digit. Any text can be
tokenised, because every byte is in the vocabulary.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from atlas_ray.trajectory import Trajectory

PAD, START, END = "<|endoftext|>", "<|im_start|>", "<|im_end|>"
CHATML = (
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>' + '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
_PIECES = Regex(r" ?\p{L}+|\p{N}|[^\S\n]?[^\s\p{L}\p{N}]+|\n|\s+")
"""Words with the blank before them, single digits, runs of punctuation, single line ends."""


def build(trajectories: Iterable[Trajectory], size: int) -> PreTrainedTokenizerFast:
    """Train the tokenizer; the same texts in the same order give the same one.

    Args:
        trajectories: whose turns are the training texts.
        size: entries at most; fewer where the texts have no more to merge.
    """
    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split(_PIECES, "isolated"), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
    )
    core.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=size,
        special_tokens=[PAD, START, END],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    core.train_from_iterator(_texts(trajectories), trainer)
    return PreTrainedTokenizerFast(tokenizer_object=core, eos_token=END, pad_token=PAD, chat_template=CHATML)


def _texts(trajectories: Iterable[Trajectory]) -> Iterator[str]:
    for trajectory in trajectories:
        for message in trajectory.messages:
            yield f"{message.role}\n{message.content}\n"
