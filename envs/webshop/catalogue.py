"""Products, the search over them, and the generated catalogue.

Ten thousand products are made from the word lists in `goods.py` in about a second, once per process and the same in any
process. The official product files are read in `official.py`.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np

from envs.webshop.goods import BRAND_ENDS, BRAND_STARTS, KINDS, LINES, POOLS, Kind

PER_KIND = 170
SEARCH_RETURNS = 50
"""Products that a search finds at most, as upstream."""

_WORD = re.compile(r"[a-z0-9]+")


@dataclass(frozen=True, slots=True)
class Product:
    """What the pages show and the reward compares; names as in upstream's product files.

    Attributes:
        asin: The shop's number for it, ten characters.
        category: The department, such as "fashion".
        query: The search term that the shop files it under.
        product_category: Its path in the shop, joined by " › ".
        attributes: What is true of it, in the shop's words.
        options: Option name -> values to choose from.
        price: Dollars; `price_tag` is how a page shows it.
    """

    asin: str
    title: str
    category: str
    query: str
    product_category: str
    description: str
    bullets: tuple[str, ...]
    attributes: tuple[str, ...]
    options: dict[str, tuple[str, ...]]
    price: float
    price_tag: str


class Shop:
    """Products by number and by asin, and BM25 search over their texts."""

    def __init__(self, products: Sequence[Product]) -> None:
        import bm25s  # here, because it takes a second and cards are shown without a shop

        self.products = tuple(products)
        self.by_asin = {product.asin: product for product in self.products}
        self._index = bm25s.BM25(backend="numpy")
        self._index.index([words(_text(product)) for product in self.products], show_progress=False)

    def search(self, keywords: str) -> tuple[str, ...]:
        """The asins of at most 50 products, best first; equal scores in the catalogue's order."""
        known = [word for word in words(keywords) if word in self._index.vocab_dict]
        if not known:
            return ()
        scores = self._index.get_scores(known)
        n = min(SEARCH_RETURNS, len(scores))
        least = np.partition(scores, len(scores) - n)[len(scores) - n]
        found = np.nonzero((scores >= least) & (scores > 0))[0]
        best = found[np.argsort(-scores[found], kind="stable")][:n]
        return tuple(self.products[n].asin for n in best.tolist())


def words(text: str) -> list[str]:
    """The words of a text as search compares them: small letters, without a plural s."""
    return [_stem(word) for word in _WORD.findall(text.lower())]


@cache
def _stem(word: str) -> str:
    return word[:-1] if len(word) > 3 and word.endswith("s") and not word.endswith("ss") else word


def _text(product: Product) -> str:
    options = (value for values in product.options.values() for value in values)
    return " ".join((product.title, product.query, product.description, *product.bullets, *options))


@cache
def generated_shop() -> Shop:
    """The generated catalogue, made once per process."""
    return Shop([product for kind in KINDS for product in _products(kind)])


def _products(kind: Kind) -> Iterable[Product]:
    pool = POOLS[kind.pool]
    rng = random.Random(f"webshop {kind.noun}")
    for n in range(PER_KIND):
        brand = rng.choice(BRAND_STARTS) + rng.choice(BRAND_ENDS)
        line = rng.choice(LINES)
        attributes = rng.sample(sorted(pool.attributes), rng.randint(4, 6))
        told, untold = attributes[:2], attributes[2:]
        number = f"{rng.randint(100, 999)}{rng.choice('ABCDEFGHKLMNPRST')}"
        title = f"{brand} {line} {_titled(*told, kind.noun)}, {_titled(untold[0])}, No. {number}"
        price = rng.randint(kind.low, kind.high) + rng.choice((0.0, 0.49, 0.95, 0.99))
        options = {name: _some(rng, values) for name, values in pool.options.items()}
        yield Product(
            asin=f"B0{kind_number(kind):02d}{n:03d}{''.join(rng.choices('BCDFGHJKLMNPQRSTVWXYZ', k=3))}",
            title=title,
            category=kind.category,
            query=kind.query,
            product_category=kind.path,
            description=_description(rng, kind, brand, line, attributes),
            bullets=tuple(_bullet(rng, attribute) for attribute in attributes),
            attributes=tuple(attributes),
            options=options,
            price=price,
            price_tag=f"${price}",
        )


def _titled(*phrases: str) -> str:
    return " ".join(word[:1].upper() + word[1:] for phrase in phrases for word in phrase.split())


def kind_number(kind: Kind) -> int:
    """The index of a kind in the list of all kinds."""
    return _NUMBERS[kind.noun]


_NUMBERS = {kind.noun: n for n, kind in enumerate(KINDS)}


def _some(rng: random.Random, values: tuple[str, ...]) -> tuple[str, ...]:
    """Three to nine of the values, in the order in which they are listed."""
    chosen = set(rng.sample(range(len(values)), rng.randint(min(3, len(values)), min(9, len(values)))))
    return tuple(value for n, value in enumerate(values) if n in chosen)


_BULLETS = (
    "{}: what our customers ask for first",
    "{} - checked by hand before it leaves our house",
    "Known for: {}",
    "{}, so that you can rely on it every day",
    "You get: {}",
)


def _bullet(rng: random.Random, attribute: str) -> str:
    return rng.choice(_BULLETS).format(attribute)


def _description(rng: random.Random, kind: Kind, brand: str, line: str, attributes: list[str]) -> str:
    opening = rng.choice(("Meet the {} from {}.", "The {} is the work of {}.", "A new {} by {}."))
    closing = rng.choice(("Makes a good present.", "Write to us if anything is missing.", "Ships within two days."))
    return (
        f"{opening.format(f'{line} {kind.noun}', brand)} It stands for {attributes[0]} and {attributes[-1]}. {closing}"
    )
