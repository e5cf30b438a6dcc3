"""The claim `tokenising` of `benchmarks.data`: from trajectories to ids and spans, beside the tokenizer alone.

The peer gets the rendered conversations as texts and gives ids; ours renders the chat template, finds the steps and
proves that they begin and end between two tokens. Both take turns, in batches of 256. Counted is CPU time, with one
thread of the tokenizer, because it does not depend on what else the machine does.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import psutil

from atlas_ray.chat import encode_all
from atlas_ray.models import ON_BOARD, load_tokenizer, resolve
from atlas_ray.trajectory import Message, Trajectory
from benchmarks.result import Result

TRAJECTORIES, STEPS, ROUNDS, BATCH = 3000, 10, 7, 256


def tokenising(folder: Path) -> list[Result]:
    """Tokens a second; `folder` is not used."""
    del folder
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    tokenizer = load_tokenizer(resolve(ON_BOARD))
    trajectories = [_trajectory(number) for number in range(TRAJECTORIES)]
    chats = [[message.model_dump(include={"role", "content"}) for message in each.messages] for each in trajectories]
    texts = [str(tokenizer.apply_chat_template(chat, tokenize=False)) for chat in chats]

    def alone() -> int:
        batches = (texts[start : start + BATCH] for start in range(0, len(texts), BATCH))
        return sum(len(ids) for batch in batches for ids in tokenizer(batch, add_special_tokens=False)["input_ids"])

    def ours() -> int:
        encoded = (each for each in encode_all(trajectories, tokenizer) if not isinstance(each, Exception))
        return sum(len(each.ids) for each in encoded)

    rates = [(_rate(ours), _rate(alone)) for _ in range(ROUNDS)]
    shown = " ".join(f"{mine / 1e3:,.0f}/{theirs / 1e3:,.0f}" for mine, theirs in rates)
    detail = f"{shown} thousand tokens per second of CPU time (load {psutil.getloadavg()[0]:.1f})"
    ratio = median(mine / theirs for mine, theirs in rates)
    return [Result("tokenising: ids, spans and proof", "the tokenizer, texts alone", ratio, "x", 0.9, detail=detail)]


def _rate(work: Callable[[], int]) -> float:
    start = time.process_time()
    return work() / (time.process_time() - start)


def _trajectory(number: int) -> Trajectory:
    messages = [
        Message(role="user", content="You are in a household. Interact with it to do a task. " * 4),
        Message(role="assistant", content="OK."),
    ]
    for step in range(STEPS):
        seen = f"You open cabinet {step}. In it, you see a plate {number}, a cup {step}, and nothing else at all. "
        seen += (
            f"AVAILABLE ACTIONS: go to cabinet {step}, close cabinet {step}, take plate {number} from cabinet {step}"
        )
        said = f"Thought: I need plate {number}, so I look in cabinet {step} next.\nAction: go to cabinet {step}"
        messages += [Message(role="user", content=seen), Message(role="assistant", content=said, step=step)]
    return Trajectory(
        trajectory_id=f"{number}", env="alfworld", item_id=f"alfworld_{number}", source="benchmark",
        messages=tuple(messages), n_steps=STEPS,
    )  # fmt: skip
