"""WebShop: catalogue, search, pages and buttons, reward, official files, the expert."""

from __future__ import annotations

import json
import random
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from atlas_ray.errors import ConfigError, DataError, EnvironmentError
from atlas_ray.react import parse_reply
from envs.webshop.catalogue import Product, generated_shop
from envs.webshop.env import WebShopEnv
from envs.webshop.goals import goals
from envs.webshop.goods import POOLS
from envs.webshop.reward import NO_LIMIT, Goal, fits, reward, type_reward
from tests.reference import reference


def _play(env: WebShopEnv, task: int, split: str = "train") -> dict[str, Any]:
    observation, info = env.reset(options={"task": task, "split": split})
    expert = env.expert()
    while env.running:
        _, action = expert.next_action(observation)
        observation, *_, info = env.step(action)
    return info


def test_the_catalogue_is_large_and_varied() -> None:
    products = generated_shop().products
    assert len(products) >= 10_000
    assert len({product.asin for product in products}) == len({product.title for product in products}) == len(products)
    assert all(len(product.asin) == 10 for product in products)
    departments = Counter(product.category for product in products)
    assert len(departments) >= 5
    assert min(departments.values()) > 1000
    assert {name for product in products for name in product.options} >= {"color", "size", "flavor", "scent"}
    assert all(product.price > 0 and product.description and len(product.bullets) >= 4 for product in products)
    offered = [value for pool in POOLS.values() for values in pool.options.values() for value in values]
    assert offered == [value.lower() for value in offered]


def test_instructions_name_what_is_asked_and_splits_do_not_overlap() -> None:
    train, test = goals("train"), goals("test")
    assert (len(train), len(test)) == (3000, 200)
    assert not {goal.asin for goal in train} & {goal.asin for goal in test}
    assert len({goal.instruction for goal in train}) > 2950
    shop = generated_shop()
    for goal in (*train[:300], *test):
        product = shop.by_asin[goal.asin]
        chosen = {str(n): value for n, (_, value) in enumerate(goal.options)}
        assert reward(product, goal, chosen) == 1, goal.instruction
        assert all(value in goal.instruction for _, value in goal.options)
        assert goal.price_upper == NO_LIMIT or f"{goal.price_upper:.2f} dollars" in goal.instruction
        assert goal.instruction == goal.instruction.lower()


def test_search_ranks_by_words_and_is_stable() -> None:
    shop = generated_shop()
    found = shop.search("women's ankle boots with a rubber sole")
    assert len(found) == 50
    assert all(shop.by_asin[asin].query == "women's boots" for asin in found[:10])
    assert shop.search("WOMEN'S ankle boot with a rubber soles") == found, "case and plural s do not matter"
    assert shop.search("zzyzx qwrt") == ()
    number = shop.products[77].title.rpartition(" ")[2]
    assert shop.products[77].asin in shop.search(f"{shop.products[77].title} {number}")[:3]


def test_pages_and_buttons() -> None:
    env = WebShopEnv(max_rounds=50)
    observation, _ = env.reset(options={"task": 4})
    told = f"Instruction: [SEP] {env.goal.instruction}"
    assert observation == f"WebShop [SEP] {told} [SEP] Search"
    observation = env.step("search[phone case]")[0]
    assert observation.startswith(f"{told} [SEP] Back to Search [SEP] Page 1 (Total results: 50) [SEP] Next > [SEP] B0")
    assert len(observation.split(" [SEP] ")) == 2 + 1 + 2 + 3 * 10
    first = env.hits[0]
    second_page = env.step("click[next >]")[0]
    assert " Page 2 (Total results: 50) [SEP] < Prev [SEP] Next > " in second_page
    assert env.step("click[< prev]")[0] == observation
    item = env.step(f"click[{first.lower()}]")[0]
    product = env.product
    assert item.startswith(f"{told} [SEP] Back to Search [SEP] < Prev [SEP] color [SEP] {product.options['color'][0]}")
    assert item.endswith(
        f"{product.title} [SEP] Price: {product.price_tag} [SEP] Rating: N.A. [SEP] Description [SEP] Features [SEP] "
        "Reviews [SEP] Buy Now"
    )
    color = product.options["color"][1]
    assert env.step(f"click[{color}]")[0] == item, "upstream's text does not show what is chosen"
    features = env.step("click[features]")[0]
    assert features == " [SEP] ".join([told, "Back to Search", "< Prev", *product.bullets])
    assert env.step("click[< prev]")[0] == item
    assert env.chosen == {"color": color}
    assert env.step("click[description]")[0].endswith(f"< Prev [SEP] {product.description}")
    assert env.step("click[< prev]")[0] == item
    assert env.step("click[< prev]")[0] == observation
    assert env.chosen == {}
    assert env.step("click[back to search]")[0] == f"WebShop [SEP] {told} [SEP] Search"


@pytest.mark.parametrize(
    "wrong", ["buy now", "click[buy now]", "click[b000000000]", "search[]", "click[]", "search", "x[y]"]
)
def test_what_cannot_be_done_shows_the_page_and_the_format(wrong: str) -> None:
    env = WebShopEnv()
    page, _ = env.reset()
    before = env.snapshot()
    observation, score, done, *_ = env.step(wrong)
    assert observation.startswith("Invalid Action. An action is search[keywords], or click[value]")
    assert observation.endswith(f"\n\n{page}")
    assert (score, done) == (0, False)
    assert env.snapshot().inner == before.inner


@pytest.mark.parametrize(
    "written",
    ["{}</s>", "{} to find it", "{}\nThen I look at the results.", "  {}  ", "{}\nAction: nothing", "{} (the best)"],
)
@pytest.mark.parametrize("call", ["search[phone case]", "click[Back to Search]"])
def test_what_follows_the_bracket_does_not_count(call: str, written: str) -> None:
    env = WebShopEnv(max_rounds=30)
    texts = []
    for action in (call, written.format(call)):
        env.reset(options={"task": 4})
        env.step("search[phone case]")
        texts.append(env.step(action)[0])
    assert texts[0] == texts[1]
    assert not texts[1].startswith("Invalid Action")


@pytest.mark.parametrize(
    "action", ["Search[phone case]", "please search[phone case]", "click[ buy now ]", "search[a] b[c]"]
)
def test_upstreams_verbs_stand_first_and_are_small(action: str) -> None:
    env = WebShopEnv()
    env.reset(options={"task": 4})
    assert env.step(action)[0].startswith("Invalid Action")


def test_the_last_label_of_a_reply_counts() -> None:
    reply = "Thought: Action: search[x] is not enough.\nAction:\nsearch[phone case]</s>"
    assert parse_reply(reply, WebShopEnv().card.action_rule).action == "search[phone case]"


@pytest.mark.parametrize(
    ("chosen", "wanted", "fit"),
    [
        ("dark wash", ("", "dark indigo"), False),  # upstream finds "ash" in "wash"
        ("dark sky", ("", "dark indigo"), True),
        ("light heather", ("", "heather blue"), False),  # heather, blue
        ("ash grey", ("", "ash"), True),
        ("camo green", ("", "camo"), True),
        ("royal", ("", "royal blue"), False),  # royal, blue
        ("stonewash", ("", "stone"), False),
        ("navy blue", ("color", "navy"), False),  # blue, and navy as it is a whole member of the pair
        ("navy", ("color", "navy"), True),
        ("dark blue", ("color", "light blue"), True),  # blue is a word of "color light blue"
        ("sky", ("color", "sky"), True),
        ("5x-large big", ("size", "5x-large big"), True),
    ],
)
def test_shades_are_reduced_as_upstream_does(chosen: str, wanted: tuple[str, str], fit: bool) -> None:
    assert fits(chosen, wanted) is fit


def test_buying_ends_with_the_reward() -> None:
    env = WebShopEnv()
    env.reset(options={"task": 4})
    env.step("search[phone case]")
    env.step(f"click[{env.hits[0].lower()}]")
    expected = reward(env.product, env.goal, {})
    observation, score, done, _, info = env.step("click[Buy Now]")
    assert observation == f"Thank you for shopping with us! [SEP] Your score (min 0.0, max 1.0) [SEP] {expected}"
    assert done
    assert score == info["score"] == expected
    assert info["success"] is (expected == 1)


def _product(**changes: Any) -> Product:
    fields: dict[str, Any] = {
        "asin": "B000000001", "title": "Norvale Drift Rubber Sole Running Shoes, Wide", "category": "fashion",
        "query": "running shoes", "product_category": "Shoes › Men › Athletic › Running",
        "description": "Made for mud.",
        "bullets": ("breathable mesh inside",), "attributes": ("rubber sole", "lace closure"),
        "options": {"color": ("dark blue", "wine red"), "size": ("9", "10")}, "price": 49.99, "price_tag": "$49.99",
    }  # fmt: skip
    return Product(**{**fields, **changes})


def _goal(**changes: Any) -> Goal:
    fields: dict[str, Any] = {
        "instruction": "shoes", "asin": "B000000001", "name": "Norvale Drift Rubber Sole Running Shoes",
        "query": "running shoes", "product_category": "Shoes › Men › Athletic › Running",
        "attributes": ("rubber sole", "breathable mesh"), "options": (("", "navy blue"), ("", "9")),
        "price_upper": 50.0,
    }  # fmt: skip
    return Goal(**{**fields, **changes})


@pytest.mark.parametrize(
    ("product", "goal", "chosen", "expected"),
    [
        ({}, {}, {"color": "dark blue", "size": "9"}, 1.0),  # another shade of blue is blue
        ({}, {}, {"color": "dark blue"}, 4 / 5),
        ({}, {}, {"color": "wine red", "size": "10"}, 3 / 5),
        ({"price": 50.01}, {}, {"color": "dark blue", "size": "9"}, 4 / 5),
        ({"bullets": ()}, {}, {"color": "dark blue", "size": "9"}, 4 / 5),
        ({"attributes": ("rubber soles",), "title": "Running Shoes", "bullets": ()}, {"options": ()}, {}, 2 / 3),
        ({"title": "Wool Blanket"}, {"options": ()}, {}, 0.0),
        ({}, {"options": (("size", "9"),)}, {"size": "9"}, 1.0),
    ],
)
def test_reward(product: dict[str, Any], goal: dict[str, Any], chosen: dict[str, str], expected: float) -> None:
    assert reward(_product(**product), _goal(**goal), chosen) == pytest.approx(expected)


def test_type_reward() -> None:
    long_name = " ".join(f"word{chr(97 + n)}" for n in range(12)).replace("word", "thing") + " shoes"
    other = {"query": "boots", "product_category": "Home › Decor"}
    assert type_reward(_product(title="Shoes", **other), _goal(name="wool shoes")) == 1, "half the nouns are enough"
    assert type_reward(_product(title="Shoes", **other), _goal(name="red wool winter ski garden shoes")) == 0.5
    assert type_reward(_product(title="Shoes"), _goal(name="red wool winter ski garden shoes")) == 1, "same search term"
    assert type_reward(_product(title="Shoes"), _goal(name=long_name)) == 0.1
    assert type_reward(_product(title="Blanket"), _goal()) == 0


def test_the_expert_gets_reward_1() -> None:
    env = WebShopEnv()
    rng = random.Random(5)
    train = [_play(env, task) for task in rng.sample(range(3000), 300)]
    test = [_play(env, task, "test") for task in range(200)]
    assert sum(info["success"] for info in train) >= 297
    assert sum(info["success"] for info in test) >= 198


def test_the_expert_takes_over_an_episode() -> None:
    env = WebShopEnv(max_rounds=25)
    rng = random.Random(3)
    for task in range(10):
        env.reset(options={"task": task})
        for _ in range(4):
            choices = [action for action in env.valid_actions() if action != "click[buy now]"]
            env.step(rng.choice(choices))
        expert, info = env.expert(), {}
        while env.running:
            info = env.step(expert.next_action("")[1])[4]
        assert info["success"], env.goal.instruction


def _files(folder: Path, human: bool = False) -> Path:
    rows = [
        {
            "asin": f"B00000000{n}", "name": f"Caf\u00e9 Mug No {n}\nlarge", "category": "garden", "query": "Mugs ",
            "product_category": "Kitchen › Cups › Mugs", "full_description": None, "small_description": ["holds tea"],
            "pricing": pricing, "images": ["x"],
            "customization_options": {"Color": [{"value": "Red/White"}, {"value": "blue"}], "Size": None},
        }
        for n, pricing in enumerate(["$12.99", "$5.00$15.00", ""])
    ]  # fmt: skip
    attributes = {
        row["asin"]: {"attributes": ["dishwasher safe"], "instruction": "Find me dishwasher safe mugs",
                      "instruction_attributes": ["dishwasher safe"]}
        for row in rows
    }  # fmt: skip
    (folder / "items_shuffle_1000.json").write_text(json.dumps([*rows, rows[0]]))
    (folder / "items_ins_v2_1000.json").write_text(json.dumps(attributes))
    told = {
        "instruction": "i want a mug.",
        "instruction_attributes": ["dishwasher safe"],
        "instruction_options": ["blue"],
    }
    (folder / "items_human_ins.json").write_text(json.dumps({"B000000000": [told], "B000000002": [told]}))
    return folder / "items_shuffle_1000.json"


def test_official_files(tmp_path: Path) -> None:
    products = _files(tmp_path)
    env = WebShopEnv(data=products)
    assert (env.card.n_train, env.card.n_test) == (6, 6), "three products with two colours each"
    texts = [env.reset(options={"task": task})[0] for task in range(6)]
    assert len(set(texts)) == 6
    assert any("Find me dishwasher safe mugs with color: red | white, and price lower than" in text for text in texts)
    assert env.locate("webshop_5") == ("train", 5)
    with pytest.raises(EnvironmentError, match="there is no item 6"):
        env.locate(6)
    for task in range(6):
        assert _play(env, task)["success"]
    title = env.product.title
    assert title.startswith("Cafe Mug No ")
    assert title.endswith(" large")
    again = WebShopEnv(data=str(products))
    assert [again.reset(options={"task": task})[0] for task in range(6)] == texts


def test_human_instructions(tmp_path: Path) -> None:
    env = WebShopEnv(data=_files(tmp_path), instructions=tmp_path / "items_human_ins.json")
    texts = [env.reset(options={"task": task})[0] for task in range(env.card.n_train)]
    assert len(texts) == 8, "two products with four price limits each"
    assert any("i want a mug, and price lower than 50.00 dollars" in text for text in texts)
    assert all(_play(env, task)["success"] for task in range(8))


@pytest.mark.parametrize(
    ("file", "content", "error", "message"),
    [
        ("items_shuffle_1000.json", "[", DataError, "items_shuffle_1000.json is not JSON"),
        ("items_shuffle_1000.json", "{}", DataError, "should hold a JSON list"),
        ("items_shuffle_1000.json", '[{"asin": 3}]', DataError, "row 0: field 'asin' should be a str, not 3"),
        ("items_shuffle_1000.json", "[]", DataError, "has no products"),
        ("items_ins_v2_1000.json", None, ConfigError, "there is no items_ins_v2"),
        ("items_ins_v2_1000.json", "{}", DataError, "has no instruction for a product"),
        ("items_shuffle_1000.json", None, ConfigError, "does not exist"),
    ],
)
def test_bad_files_are_named(tmp_path: Path, file: str, content: str | None, error: Any, message: str) -> None:
    products = _files(tmp_path)
    if content is None:
        (tmp_path / file).unlink()
    else:
        (tmp_path / file).write_text(content)
    with pytest.raises(error, match=message):
        WebShopEnv(data=products)


def test_items_of_other_products_cannot_be_located() -> None:
    with pytest.raises(EnvironmentError, match="give data=items_shuffle_1000.json or choose tasks by number"):
        WebShopEnv().locate("webshop_3")
    with pytest.raises(ConfigError, match="give data=FILE too"):
        WebShopEnv(instructions="items_human_ins.json")


@reference("webshop/items_ins_v2_1000.json")
def test_upstreams_attribute_file_is_read_whole(path: str, tmp_path: Path) -> None:
    rows = json.loads(Path(path).read_text())
    products = [
        {
            "asin": asin,
            "name": f"thing {n}",
            "category": "x",
            "query": "thing",
            "product_category": "x › y",
            "images": [""],
        }
        for n, asin in enumerate(rows)
    ]
    (tmp_path / "items_shuffle_1000.json").write_text(json.dumps(products))
    (tmp_path / "items_ins_v2_1000.json").write_text(json.dumps(rows))
    env = WebShopEnv(data=tmp_path / "items_shuffle_1000.json")
    assert env.card.n_test == sum("instruction" in row for row in rows.values())
    for task in range(20):
        env.reset(options={"task": task})
        assert env.goal.attributes
