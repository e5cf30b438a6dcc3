"""The WebShop expert: searches, opens promising products, reads their features, chooses options, and buys.

It knows the goal behind the instruction, so it can tell which products of a page fulfil it. It finds them with the
searches and pages that any agent has.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from envs.webshop.catalogue import Product
from envs.webshop.reward import NO_LIMIT, Goal, fits, reward

if TYPE_CHECKING:
    from envs.webshop.env import WebShopEnv

_PAGES = 3
_FILLERS = frozenset(
    """
    a also am an and as at be buy by can color come comes could find for from get give go goes good has have help i i'd
    i'm im in interested is it its like look looking made make me my need needs not of on one or please price purchase
    search set shop shopping show sister size so sold some something that the them there these they this to too us want
    wants will with would you your
    """.split()
)


class WebShopExpert:
    """Remembers which searches it made, what it settled for, and whose features it read."""

    def __init__(self, env: WebShopEnv) -> None:
        self._env = env
        self._searches = 0
        self._settled = ""
        self._read: set[str] = set()

    def next_action(self, observation: str) -> tuple[str, str]:
        """The next click or search; see `Expert`."""
        page = self._env.page
        if page == "search":
            return self._search()
        if page == "results":
            return self._choose_product()
        product = self._env.product
        if page == "item":
            return self._on_item(product)
        return "I have read enough about it here, so I go back to the product.", "click[< prev]"

    def _search(self) -> tuple[str, str]:
        goal = self._env.goal
        queries = _queries(goal)
        query = queries[min(self._searches, len(queries) - 1)]
        self._searches += 1
        if self._searches == 1:
            return f"I am asked: {goal.instruction}. I search for the words that matter.", f"search[{query}]"
        return f"The last search did not show what I need, so I try other words: {query}.", f"search[{query}]"

    def _choose_product(self) -> tuple[str, str]:
        env, goal = self._env, self._env.goal
        good = next((product for product in env.shown if _best(product, goal) == 1), None)
        if good is not None:
            return f"{_looks(good, goal)}, so I open it.", f"click[{good.asin.lower()}]"
        if env.page_number < _PAGES and len(env.hits) > 10 * env.page_number and self._left() > 5:
            return "None of these fits all that is asked, so I look at the next page.", "click[next >]"
        if self._searches < len(_queries(goal)) and self._left() > 5:
            return "Nothing fits here, so I go back and search again.", "click[back to search]"
        if env.shown:
            nearest = max(env.shown, key=lambda product: _best(product, goal))
            self._settled = nearest.asin
            return f"{nearest.title} comes nearest to what is asked, so I open it.", f"click[{nearest.asin.lower()}]"
        return "There is nothing to see here, so I go back to the search.", "click[back to search]"

    def _on_item(self, product: Product) -> tuple[str, str]:
        goal, chosen = self._env.goal, self._env.chosen
        if _best(product, goal) < 1 and product.asin != self._settled and self._left() > 5:
            return "This product is not what I am asked for, so I go back.", "click[< prev]"
        clicks = [
            value for option in goal.options if (value := _value(product, option)) and value not in chosen.values()
        ]
        unseen = [attribute for attribute in goal.attributes if attribute not in product.title.lower()]
        if unseen and product.asin not in self._read and self._left() > len(clicks) + 2:
            self._read.add(product.asin)
            return f"The title does not say {' and '.join(unseen)}, so I read the features.", "click[features]"
        if clicks:
            return f"I am asked for {clicks[0]}, so I choose it.", f"click[{clicks[0]}]"
        if chosen:
            picked = " and ".join(chosen.values())
            return f"I have chosen {picked} at {product.price_tag}, all is as asked, so I buy it.", "click[buy now]"
        return f"There is nothing more to choose and {product.price_tag} is fine, so I buy it.", "click[buy now]"

    def _left(self) -> int:
        return self._env.card.max_rounds - self._env.rounds


def _queries(goal: Goal) -> list[str]:
    """What to search for: the instruction's words, then the attributes with the shop's term, then that term alone."""
    text = goal.instruction.partition(", and price lower than")[0].lower()
    asked = " ".join(word for word in (part.strip(".,:;") for part in text.split()) if word not in _FILLERS)
    queries = [asked, " ".join((*goal.attributes, goal.query)), goal.query]
    return list(dict.fromkeys(query.replace("[", " ").replace("]", " ") for query in queries if query.strip()))


def _value(product: Product, option: tuple[str, str]) -> str | None:
    """The product's value for an option of the goal: the same one, or else one that counts as it."""
    name, wanted = option
    values = product.options.get(name) or tuple(value for values in product.options.values() for value in values)
    if wanted in values:
        return wanted
    return next((value for value in values if fits(value, option)), None)


def _best(product: Product, goal: Goal) -> float:
    """The reward for the product with the right options chosen."""
    chosen = {str(n): value for n, option in enumerate(goal.options) if (value := _value(product, option))}
    return reward(product, goal, chosen)


def _looks(product: Product, goal: Goal) -> str:
    said = [attribute for attribute in goal.attributes if attribute in product.title.lower()]
    promise = f" says {' and '.join(said)}" if said else " may be what I need"
    price = f" and costs {product.price_tag}" if goal.price_upper < NO_LIMIT else ""
    return f'"{product.title}"{promise}{price}'
