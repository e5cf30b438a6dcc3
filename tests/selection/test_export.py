"""A stored selection out in every format, and in again."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest

from atlas_ray.chat import encode, loss_mask
from atlas_ray.config import TrainConfig
from atlas_ray.errors import DataError, SelectionError
from atlas_ray.formats.files import read
from atlas_ray.formats.messages import AXOLOTL_DATASET
from atlas_ray.selection.export import FORMATS, Exported, export, export_tokens
from atlas_ray.store import Store
from atlas_ray.trajectory import Selection, Trajectory
from tests.selection.data import made, trajectory

SUBJECTS = [trajectory(number, number % 5, observation="Überall {x}\n\u2028") for number in range(150)]

WEIGHTS = (1.0, 0.25, 0.5, 1.0)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    found = Store(str(tmp_path_factory.mktemp("run")))
    found.write_trajectories(SUBJECTS)
    found.write_selections("all", [made("all").choose(subject, {}) for subject in SUBJECTS])
    failed = Selection(trajectory_id=SUBJECTS[4].trajectory_id, method="random", ratio=0.3, error="timeout: late")
    chosen = [made("random").choose(subject, {}) for subject in SUBJECTS]
    found.write_selections("random", [failed, *chosen[:4], *chosen[5:]])
    return found


@pytest.mark.parametrize("form", FORMATS)
def test_all_steps_go_out_and_come_in_again(store: Store, tmp_path: Path, form: str) -> None:
    path = str(tmp_path / "out.jsonl")
    found = export(store, "all", form, path)  # type: ignore[arg-type]
    assert found == Exported(120, Counter({"no step chosen": 30}), 0)
    again = list(read(path))
    assert [one.messages for one in again if isinstance(one, Trajectory)] == [s.messages for s in SUBJECTS if s.n_steps]


def test_the_chosen_steps_alone_are_flagged(store: Store, tmp_path: Path) -> None:
    chosen = {row.trajectory_id: row.steps for row in store.read_selections("random") if row.steps}
    expected = [
        [message.step is not None and message.step in chosen[subject.trajectory_id] for message in subject.messages]
        for subject in SUBJECTS
        if subject.trajectory_id in chosen
    ]
    found = export(store, "random", "messages", str(tmp_path / "m.jsonl"))
    assert found == Exported(len(chosen), Counter({"no step chosen": 30, "error timeout": 1}), 0)
    lines = [json.loads(line) for line in (tmp_path / "m.jsonl").read_text().split("\n") if line]
    assert [[turn.get("weight") == 1 for turn in line["messages"]] for line in lines] == expected
    assert all(("weight" in turn) == (turn["role"] == "assistant") for line in lines for turn in line["messages"])
    export(store, "random", "axolotl", str(tmp_path / "x.jsonl"))
    lines = [json.loads(line) for line in (tmp_path / "x.jsonl").read_text().split("\n") if line]
    assert [[turn["train"] for turn in line["conversations"]] for line in lines] == expected
    export(store, "random", "agenttraj", str(tmp_path / "a.json"))
    items = json.loads((tmp_path / "a.json").read_text())
    assert [[turn["loss"] is True for turn in item["conversations"]] for item in items] == expected
    assert len(list(read(str(tmp_path / "a.json")))) == len(chosen)


def test_weights_go_out_where_the_format_holds_them_and_are_counted_elsewhere(tmp_path: Path) -> None:
    store = Store(str(tmp_path / "run"))
    subjects = [trajectory(number, 4) for number in range(3)]
    store.write_trajectories(subjects)
    rows = [made("all").choose(subject, {}).model_copy(update={"weights": WEIGHTS}) for subject in subjects]
    store.write_selections("weighted", rows)
    path = tmp_path / "m.jsonl"
    assert export(store, "weighted", "messages", str(path)).weights_lost == 0
    turns = json.loads(path.read_text().split("\n")[0])["messages"]
    weights = [turn["weight"] for turn in turns if turn["role"] == "assistant"]
    assert weights == [0, *WEIGHTS]
    assert [type(weight) for weight in weights] == [int, int, float, float, int]  # OpenAI takes integers alone
    assert all(isinstance(one, Trajectory) and one.n_steps == 4 for one in read(str(path)))
    for form in ("axolotl", "agenttraj"):
        found = export(store, "weighted", form, str(path))  # type: ignore[arg-type]
        assert (found.rows, found.weights_lost) == (3, 6)


def test_tokens_and_masks_are_those_of_training(store: Store, tmp_path: Path) -> None:
    from tests.tokenizers import tokenizer

    own, path = tokenizer("chatml"), tmp_path / "tokens.jsonl"
    subjects = SUBJECTS[:4]
    chosen = {one.trajectory_id: {0: 1.0, one.n_steps - 1: 0.5} for one in subjects if one.n_steps}
    found = export_tokens(subjects[1:], chosen, own, TrainConfig(), str(path))
    assert (found.rows, found.weights_lost) == (3, 3)
    for line, one in zip(path.read_text().split("\n"), subjects[1:], strict=False):
        row = json.loads(line)
        assert set(row) == {"input_ids", "loss_mask"}  # SkyRL takes a mask of 0 and 1 over the whole sequence
        encoded = encode(one, own)
        assert row["input_ids"] == encoded.ids
        assert row["loss_mask"] == [int(learnt) for learnt in loss_mask(encoded, chosen[one.trajectory_id])]


def test_what_cannot_be_written_is_one_line_and_leaves_no_file(store: Store, tmp_path: Path) -> None:
    with pytest.raises(SelectionError, match="'llm' has no row"):
        export(store, "llm", "messages", str(tmp_path / "m.jsonl"))
    with pytest.raises(DataError, match="leaves nothing to write"):
        export(store, "all", "messages", str(tmp_path / "m.jsonl"), ids=["t0000"])
    with pytest.raises(DataError, match="cannot be written"):
        export(store, "all", "messages", "/proc/none/m.jsonl")
    assert not list(tmp_path.iterdir())


def test_openais_own_types_know_every_field(store: Store, tmp_path: Path) -> None:
    from openai.types.chat import ChatCompletionMessageParam
    from pydantic import TypeAdapter

    export(store, "random", "messages", str(tmp_path / "m.jsonl"))
    known = TypeAdapter(list[ChatCompletionMessageParam])
    for line in (tmp_path / "m.jsonl").read_text().split("\n")[:-1]:
        row = json.loads(line)
        assert set(row) == {"messages"}
        known.validate_python([{k: v for k, v in turn.items() if k != "weight"} for turn in row["messages"]])
        assert {turn["weight"] for turn in row["messages"] if turn["role"] == "assistant"} <= {0, 1}


def test_axolotls_loader_labels_the_chosen_steps(store: Store, tmp_path: Path) -> None:
    chat_template = pytest.importorskip("axolotl.prompt_strategies.chat_template", reason="axolotl is not installed")
    import yaml

    from tests.tokenizers import tokenizer

    export(store, "random", "axolotl", str(tmp_path / "x.jsonl"))
    options = yaml.safe_load(AXOLOTL_DATASET.format(path="x"))["datasets"][0]
    tok = tokenizer("chatml")
    from axolotl.utils.dict import DictDefault

    strategy = chat_template.load(
        tok, DictDefault({"sequence_len": 4096, "train_on_inputs": False}), DictDefault(options)
    )
    for line in (tmp_path / "x.jsonl").read_text().split("\n")[:20]:
        row = json.loads(line)
        encoded = strategy.tokenize_prompt(row)
        labelled = tok.decode([label for label in encoded["labels"] if label != -100])
        for turn in row["conversations"]:
            assert (turn["value"] in labelled) == turn["train"]
