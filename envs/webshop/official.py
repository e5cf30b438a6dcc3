"""A reader of the official WebShop files: products, and the instructions written for them.

`items_shuffle*.json` has the products, `items_ins_v2*.json` their attributes and synthetic instructions (which AgentGym
plays), `items_human_ins.json` the human instructions. Goals are in upstream's order, shuffled with its seed, so goal i
is AgentGym's item i for the files that AgentGym plays.
"""

from __future__ import annotations

import itertools
import json
import random
import re
import unicodedata
from functools import cache
from pathlib import Path
from typing import Any

from atlas_ray.errors import ConfigError, DataError
from envs.webshop.catalogue import Product, Shop
from envs.webshop.reward import NO_LIMIT, Goal

_SEED = 233  # upstream's
_PRICES = [10.0 * n for n in range(1, 100)]


@cache
def official(products: Path, instructions: Path | None) -> tuple[Shop, tuple[Goal, ...]]:
    """The shop and the goals of official files, read once per process.

    Args:
        products: `items_shuffle.json`, `items_shuffle_1000.json` or a file like them.
        instructions: An `items_ins_v2` or `items_human_ins` file; None takes the first one beside the products.

    Raises:
        ConfigError: A file is missing.
        DataError: A file is malformed; the text names file, row and field.
    """
    if not products.is_file():
        raise ConfigError(f"webshop: data {products} does not exist; give upstream's file of products")
    attributes_path = _beside(products, "ins_v2")
    instructions = instructions or attributes_path
    rows, attributes, told = _read(products, list), _read(attributes_path, dict), _read(instructions, dict)
    shop = Shop(_products(products, rows, attributes))
    if any(isinstance(entry, list) for entry in told.values()):
        goals = [goal for product in shop.products for goal in _human(instructions, product, told)]
    else:
        rng = random.Random(_SEED)
        goals = [goal for product in shop.products for goal in _synthetic(instructions, product, told, rng)]
    if not goals:
        raise DataError(f"webshop: {instructions} has no instruction for a product of {products}")
    random.Random(_SEED).shuffle(goals)
    return shop, tuple(goals)


def _beside(products: Path, kind: str) -> Path:
    """The file of attributes that belongs to a file of products, by upstream's names."""
    exact = products.with_name(products.name.replace("shuffle", kind))
    if exact != products and exact.exists():
        return exact
    found = sorted(products.parent.glob(f"items_{kind}*.json"))
    if not found:
        raise ConfigError(f"webshop: there is no items_{kind}*.json beside {products}; put upstream's file there")
    return found[0]


def _read(path: Path, kind: type) -> Any:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"webshop: {path} cannot be read: {error}") from error
    except ValueError as error:
        raise DataError(f"webshop: {path} is not JSON: {error}") from error
    if not isinstance(content, kind):
        raise DataError(f"webshop: {path} should hold a JSON {'list' if kind is list else 'object'}")
    return content


def _clean(text: str) -> str:
    """Text as the pages can show it: one line of printable ASCII."""
    plain = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode()
    return " ".join("".join(c if c.isprintable() else " " for c in plain).split())


def _products(path: Path, rows: list[Any], attributes: dict[str, Any]) -> list[Product]:
    products: dict[str, Product] = {}
    for number, row in enumerate(rows):
        where = f"webshop: {path} row {number}"
        if not isinstance(row, dict):
            raise DataError(f"{where}: expected an object")
        asin = _field(row, "asin", str, where)
        if asin == "nan" or len(asin) > 10 or asin in products:
            continue  # upstream leaves these out
        about = attributes.get(asin)
        bullets = row.get("small_description") or []
        price, price_tag = _price(row.get("pricing"), asin, where)
        products[asin] = Product(
            asin=asin,
            title=_clean(_field(row, "name", str, where)),
            category=_field(row, "category", str, where),
            query=_field(row, "query", str, where).lower().strip(),
            product_category=_field(row, "product_category", str, where),
            description=_clean(str(row.get("full_description") or "")),
            bullets=tuple(_clean(str(one)) for one in (bullets if isinstance(bullets, list) else [bullets])),
            attributes=tuple((about or {}).get("attributes") or ()) if isinstance(about, dict) else (),
            options=_options(row.get("customization_options") or {}, where),
            price=price,
            price_tag=price_tag,
        )
    if not products:
        raise DataError(f"webshop: {path} has no products")
    return list(products.values())


def _field(row: dict[str, Any], name: str, kind: type, where: str) -> Any:
    if not isinstance(row.get(name), kind):
        raise DataError(f"{where}: field {name!r} should be a {kind.__name__}, not {row.get(name)!r:.60}")
    return row[name]


def _price(pricing: Any, asin: str, where: str) -> tuple[float, str]:
    """The price and how the page shows it; of a range, one price in it that depends on the product alone."""
    if not pricing:
        return 100.0, "$100.0"
    try:
        found = [float(re.sub(r"[^\d.]", "", part)) for part in str(pricing).split("$")[1:]]
        low, *rest = found
    except ValueError as error:
        raise DataError(f"{where}: field 'pricing' is {pricing!r:.60}, not dollars such as '$9.99'") from error
    if not rest:
        return low, f"${low}"
    return random.Random(f"webshop price {asin}").uniform(low, rest[0]), f"${low} to ${rest[0]}"


def _options(raw: Any, where: str) -> dict[str, tuple[str, ...]]:
    try:
        return {
            _clean(name.lower()): tuple(_clean(one["value"].strip().replace("/", " | ").lower()) for one in values)
            for name, values in raw.items()
            if values is not None
        }
    except (AttributeError, KeyError, TypeError) as error:
        raise DataError(f"{where}: field 'customization_options' should be name -> list of {{value}}") from error


def _goal(
    product: Product, instruction: str, attributes: list[str], options: tuple[tuple[str, str], ...], upper: float
) -> Goal:
    limit = f", and price lower than {upper:.2f} dollars" if upper < NO_LIMIT else ""
    return Goal(
        instruction=_clean(instruction + limit),
        asin=product.asin,
        name=product.title,
        query=product.query,
        product_category=product.product_category,
        attributes=tuple(attributes),
        options=options,
        price_upper=upper,
    )


def _above(product: Product) -> list[float]:
    return [price for price in _PRICES if price > product.price][:4]


def _synthetic(path: Path, product: Product, told: dict[str, Any], rng: random.Random) -> list[Goal]:
    """One goal for every combination of options, as upstream."""
    row = told.get(product.asin)
    if not isinstance(row, dict) or row.get("instruction") is None:
        return []
    where = f"webshop: {path} row {product.asin}"
    text, attributes = _field(row, "instruction", str, where), _field(row, "instruction_attributes", list, where)
    above = _above(product)
    upper = max(rng.sample(above, 2)) if len(above) >= 2 else NO_LIMIT
    names = sorted(product.options)
    goals = []
    for values in itertools.product(*(product.options[name] for name in names)):
        options = tuple(zip(names, values, strict=True))
        chosen = ", and ".join(f"{name}: {value}" for name, value in options)
        goals.append(_goal(product, f"{text} with {chosen}" if chosen else text, attributes, options, upper))
    return goals


def _human(path: Path, product: Product, told: dict[str, Any]) -> list[Goal]:
    """One goal for each instruction and each of at most four price limits, as AgentGym."""
    goals = []
    for row in told.get(product.asin) or []:
        where = f"webshop: {path} row {product.asin}"
        attributes = _field(row, "instruction_attributes", list, where)
        text = _field(row, "instruction", str, where).strip(".")
        options = tuple(("", _clean(str(value))) for value in row.get("instruction_options") or [])
        above = _above(product)
        limits = above if len(above) >= 2 else [NO_LIMIT] * 4
        if attributes:
            goals += [_goal(product, text, attributes, options, upper) for upper in limits]
    return goals
