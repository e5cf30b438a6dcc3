"""The reward of a purchase, as upstream: from the type, attributes, options and price of what was bought.

Fuzzy matches are rapidfuzz's, which upstream's thefuzz calls too. Upstream finds the nouns of a title with spaCy. Here
every word counts unless it is a number, a function word or one of a few adjectives (`_nouns`).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache

from rapidfuzz.fuzz import token_set_ratio
from rapidfuzz.utils import default_process

from envs.webshop.catalogue import Product

MATCH = 85
NO_LIMIT = 1_000_000.0


@dataclass(frozen=True, slots=True)
class Goal:
    """What the instruction asks for.

    Attributes:
        instruction: The text that the agent reads.
        asin: The product that the instruction was written for.
        attributes: What must be true of the product.
        options: The values to choose, with their option's name where it is known ("" otherwise).
        price_upper: The highest price in dollars.
    """

    instruction: str
    asin: str
    name: str
    query: str
    product_category: str
    attributes: tuple[str, ...]
    options: tuple[tuple[str, str], ...]
    price_upper: float


def reward(product: Product, goal: Goal, chosen: dict[str, str]) -> float:
    """The reward in [0, 1] for buying a product with the chosen options (option name -> value)."""
    n_attributes = sum(has_attribute(product, attribute) for attribute in goal.attributes)
    n_options = sum(any(fits(value, option) for value in chosen.values()) for option in goal.options)
    in_budget = product.price <= goal.price_upper
    share = (n_attributes + n_options + in_budget) / (len(goal.attributes) + len(goal.options) + 1)
    return share * type_reward(product, goal)


def type_reward(product: Product, goal: Goal) -> float:
    """1 for the right kind of product, less or nothing the less the titles have in common."""
    nouns = _nouns(goal.name)
    common = len(nouns & _nouns(product.title)) / len(nouns) if nouns else 0.2
    if common == 0:
        return 0.0
    if common < 0.1:
        return 0.1
    categories = [
        {part.strip() for part in path.split("›")} for path in (product.product_category, goal.product_category)
    ]
    same = product.query == goal.query or len(categories[0] & categories[1]) >= 2 or common > 0.2
    return 1.0 if same else 0.5


def has_attribute(product: Product, attribute: str) -> bool:
    """Whether an attribute of the product is much the same, or its texts contain it."""
    if any(_similar(own, attribute) for own in product.attributes):
        return True
    texts = (product.title, " ".join(product.bullets), product.description)
    return any(attribute in text.lower() for text in texts)


def fits(value: str, option: tuple[str, str]) -> bool:
    """Whether a chosen value is what an option of the goal asks for; shades of a colour are that colour.

    Upstream's named options are pairs, in which it looks for a colour as a whole member and not as a part of a text.
    """
    name, wanted = option
    if not name:
        return _similar(_colour(value), _colour(wanted))
    return _similar(_colour(value), next((colour for colour in _COLOURS if colour in option), f"{name} {wanted}"))


@cache
def _similar(first: str, second: str) -> bool:
    return round(token_set_ratio(first, second, processor=default_process)) > MATCH


_COLOURS = tuple(
    """
    alabaster apricot aqua ash asphalt azure banana beige black blue blush bordeaux bronze brown burgundy camel camo
    caramel champagne charcoal cheetah chestnut chocolate christmas coffee cognac copper coral cranberry cream
    crystal dark denim eggplant elephant espresso fuchsia gold granite grape graphite grass gray green grey heather
    indigo ivory ivy khaki lavender lemon leopard light lilac lime magenta maroon mauve merlot midnight mint mocha
    multicolor mushroom mustard natural navy nude olive orange peach pewter pink plum purple rainbow red rose royal
    rust sand sapphire seashell silver skull slate steel stone stonewash sunflower tan taupe teal tiger turquoise
    violet walnut wheat white wine yellow
    """.split()
)
"""The words that upstream takes for colours, patterns and shades among them, in its order: the first one counts."""


@cache
def _colour(value: str) -> str:
    """The first colour word that a value contains; the value itself if there is none."""
    return next((colour for colour in _COLOURS if colour in value), value)


_NOT_NOUNS = frozenset(
    """
    a an and are as at be best big by can easy extra fine for free from full good great high in is it its large light
    long low made more new no non not of off on one only or our over perfect per pro set short slim small soft so super
    than that the this to top up ultra use with without you your
    """.split()
)


@cache
def _nouns(title: str) -> frozenset[str]:
    """The words of a title that can be nouns."""
    found = re.findall(r"[a-z][a-z'-]+", title.lower())
    return frozenset(word for word in found if word not in _NOT_NOUNS)
