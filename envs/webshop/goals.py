"""The tasks of the generated shop: instructions in everyday words, each for a product that fulfils it.

Test goals and training goals are about different products.
"""

from __future__ import annotations

import random
from functools import cache

from atlas_ray.environments.contract import Split
from envs.webshop.catalogue import PER_KIND, Product, generated_shop
from envs.webshop.goods import KINDS, POOLS, Kind
from envs.webshop.reward import NO_LIMIT, Goal

N_TASKS = {"train": 3000, "test": 200}
_TEST_EVERY = 10
"""Of the products, every tenth is for tests."""

_OPENINGS = (
    "i am looking for {}",
    "i need {}",
    "i want to buy {}",
    "can you find me {}",
    "show me {}",
    "please find {}",
    "looking for {}",
    "i would like to get {}",
    "my sister needs {}",
    "help me find {}",
    "i'm shopping for {}",
)
_OPTIONS = {
    "color": ("in {}", "in the color {}", "that comes in {}"),
    "size": ("in size {}", "size {}"),
    "scent": ("with {} scent", "that is {} scented"),
    "flavor": ("with {} flavor", "in the {} flavor"),
    "fits": ("for a {}",),
    "style": ("as a {}",),
}
_LENGTH_WORDS = {"cable": ("{} long",), "food": ("in a {}", "sold as {}"), "drink": ("in a {}", "sold as {}")}


@cache
def goals(split: Split) -> tuple[Goal, ...]:
    """The goals of a split in task order, the same in any process."""
    products = generated_shop().products
    rng = random.Random(f"webshop goals {split}")
    mine = [n for n in range(len(products)) if (n % _TEST_EVERY == 0) == (split == "test")]
    return tuple(_goal(rng, products[n], KINDS[n // PER_KIND]) for n in rng.sample(mine, N_TASKS[split]))


def _goal(rng: random.Random, product: Product, kind: Kind) -> Goal:
    attributes = rng.sample(product.attributes, rng.randint(1, 3))
    names = rng.sample(sorted(product.options), rng.randint(min(1, len(product.options)), len(product.options)))
    options = tuple((name, rng.choice(product.options[name])) for name in names)
    above = [10.0 * n for n in range(1, 100) if 10.0 * n > product.price][:4]
    price_upper = rng.choice(above) if len(above) >= 2 and rng.random() < 0.9 else NO_LIMIT
    return Goal(
        instruction=_instruction(rng, kind, attributes, options, price_upper),
        asin=product.asin,
        name=product.title,
        query=product.query,
        product_category=product.product_category,
        attributes=tuple(attributes),
        options=tuple(("", value) for _, value in options),  # as upstream's human goals have them
        price_upper=price_upper,
    )


def _instruction(
    rng: random.Random, kind: Kind, attributes: list[str], options: tuple[tuple[str, str], ...], price_upper: float
) -> str:
    spoken = [POOLS[kind.pool].attributes[attribute] for attribute in attributes]
    before = [words for words in spoken if not words.startswith("+")]
    after = [words.removeprefix("+") for words in spoken if words.startswith("+")]
    thing = f"{', '.join(before)} {kind.noun}".strip()
    chosen = []
    for name, value in options:
        templates = _LENGTH_WORDS.get(kind.pool, _OPTIONS[name]) if name == "size" else _OPTIONS[name]
        chosen.append(rng.choice(templates).format(value))
    text = rng.choice(_OPENINGS).format(_with_article(thing, kind.noun))
    text = " ".join((text, " and ".join(after), ", ".join(chosen)))
    if price_upper < NO_LIMIT:
        text += f", and price lower than {price_upper:.2f} dollars"
    return " ".join(text.split()).replace(" ,", ",")


def _with_article(thing: str, noun: str) -> str:
    if noun.endswith("s") and not noun.endswith("ss"):
        return thing
    return f"{'an' if thing[0] in 'aeiou' else 'a'} {thing}"
