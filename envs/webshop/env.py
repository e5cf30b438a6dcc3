"""WebShop: search a shop, open products, choose options and buy what the instruction asks for.

Pages, buttons, texts and the reward are upstream's (princeton-nlp/WebShop in text mode, as AgentGym runs it). Products
are in `catalogue.py`, goals in `goals.py` and `official.py`, the reward in `reward.py`, the expert in `expert.py`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar, Literal

from atlas_ray.environments.contract import EnvironmentCard, Outcome, Split, TextEnv, first_texts, item_number
from atlas_ray.environments.verbs import Verb
from atlas_ray.errors import ConfigError, EnvironmentError
from atlas_ray.trajectory import Message
from envs.webshop.catalogue import Product, Shop, generated_shop
from envs.webshop.expert import WebShopExpert
from envs.webshop.goals import N_TASKS, goals
from envs.webshop.official import official
from envs.webshop.reward import Goal, reward

Page = Literal["search", "results", "item", "description", "features", "reviews"]
_Inner = tuple[int, Split, Page, tuple[str, ...], int, str, tuple[tuple[str, str], ...]]

INSTRUCTION = """\
Buy in a web shop what the instruction asks for. Answer each observation with a thought and one action:
Thought: your reasoning
Action: search[keywords] or click[value], where value is a button, a product's number or an option of the page"""

PAGE_SIZE = 10
_SEPARATOR = " [SEP] "
_ACTION = re.compile(r"(.+)\[(.+)\]")
"""As upstream: what follows the last closing bracket of the first line does not count."""
_TOLD = re.compile(r"Instruction:[\s|]*(?:\[SEP\])?\s*(.*?)\s*(?:\[SEP\]|$)", re.MULTILINE)
_HELP = "Invalid Action. An action is search[keywords], or click[value] with a value of this page."


class WebShopEnv(TextEnv):
    """Tasks are instructions; `info["score"]` becomes the reward of the purchase, success is a reward of 1.

    Args:
        data: An official file of products, with its `items_ins_v2` file beside it; task i is upstream's goal i,
            whatever the split.
        instructions: The official file of instructions to play; the `items_ins_v2` file unless given.
        max_rounds: Rounds before truncation, the paper's 10 unless given.

    `valid_actions` are the clicks that the page offers and, where it has a search bar, one search. Nothing in a task is
    random, so `seed` changes nothing. All instances of a process share one shop.
    """

    grammar = (
        Verb("search[{keywords}]", "Search for products, from the search page."),
        Verb("click[{value}]", "Press a button, open a product by its number, or choose an option of the page."),
    )
    refusals: ClassVar[str] = r"Invalid Action"

    def __init__(
        self,
        *,
        data: str | Path | None = None,
        instructions: str | Path | None = None,
        max_rounds: int | None = None,
    ) -> None:
        if instructions is not None and data is None:
            raise ConfigError("webshop: instructions need their products; give data=FILE too")
        self._files = None if data is None else (Path(data), None if instructions is None else Path(instructions))
        self._official = None if self._files is None else official(*self._files)
        n_train, n_test = N_TASKS["train"], N_TASKS["test"]
        if self._official is not None:
            n_train = n_test = len(self._official[1])
        card = EnvironmentCard(
            name="webshop",
            version=2,
            held_in=True,
            metric="success_rate",
            max_rounds=10,
            instruction=INSTRUCTION,
            acknowledgement="Ok.",
            n_train=n_train,
            n_test=n_test,
            source="princeton-nlp/WebShop (MIT) as in AgentGym; the products are generated unless data is given",
            action_rule="last",
        )
        super().__init__(card, max_rounds=max_rounds)
        self._shop: Shop
        self._goal: Goal
        self._page: Page = "search"
        self._hits: tuple[str, ...] = ()
        self._page_number = 1
        self._asin = ""
        self._chosen: dict[str, str] = {}

    @property
    def goal(self) -> Goal:
        """What the instruction asks for."""
        return self._goal

    @property
    def page(self) -> Page:
        """The page that is shown."""
        return self._page

    @property
    def page_number(self) -> int:
        """Which page of the results is or was shown, from 1."""
        return self._page_number

    @property
    def hits(self) -> tuple[str, ...]:
        """What the last search found."""
        return self._hits

    @property
    def shown(self) -> list[Product]:
        """The products on the current page of results."""
        last = self._page_number * PAGE_SIZE
        return [self._shop.by_asin[asin] for asin in self._hits[last - PAGE_SIZE : last]]

    @property
    def product(self) -> Product:
        """The product that is open."""
        return self._shop.by_asin[self._asin]

    @property
    def chosen(self) -> dict[str, str]:
        """The options chosen for the open product, name -> value."""
        return dict(self._chosen)

    def locate(self, item_id: int | str) -> tuple[Split, int]:
        """AgentGym's item n is goal n of the official files that it plays; see `TextEnv.locate`."""
        number = item_number(item_id, "webshop")
        if self._official is None:
            raise EnvironmentError(
                "webshop: item ids number the goals of upstream's products, which are not here; "
                "give data=items_shuffle_1000.json or choose tasks by number"
            )
        if number is None or number >= self.card.n_train:
            raise EnvironmentError(
                f"webshop: there is no item {item_id!r}; they are webshop_0 to webshop_{self.card.n_train - 1}"
            )
        return "train", number

    def recognise(self, messages: Sequence[Message]) -> tuple[Split, int] | None:
        """The goal whose instruction the first page shows; see `TextEnv.recognise`."""
        found = _TOLD.findall(first_texts(messages))
        splits: tuple[Split, ...] = ("train", "test")
        for split in splits if found else ():
            known = goals(split) if self._official is None else self._official[1]
            for task, goal in enumerate(known):
                if goal.instruction == " ".join(found[-1].split()):
                    return split, task
        return None

    def _start(self, task: int, split: Split, seed: int | None) -> str:
        self._enter(task, split)
        self._to_search()
        return self._text()

    def _enter(self, task: int, split: Split) -> None:
        if self._official is not None:
            self._shop, self._goal = self._official[0], self._official[1][task]
        else:
            self._shop, self._goal = generated_shop(), goals(split)[task]

    def _to_search(self) -> None:
        self._page, self._hits, self._page_number, self._asin, self._chosen = "search", (), 1, "", {}

    # -- pages ----------------------------------------------------------------------------------------------------

    def _text(self) -> str:
        """The page as upstream's text mode shows it."""
        instruction = f"Instruction: [SEP] {self._goal.instruction}"
        if self._page == "search":
            return f"WebShop [SEP] {instruction} [SEP] Search"
        parts = [instruction, "Back to Search"]
        if self._page == "results":
            parts.append(f"Page {self._page_number} (Total results: {len(self._hits)})")
            parts += ["< Prev", "Next >"] if self._page_number > 1 else ["Next >"]
            return _SEPARATOR.join([*parts, *map(_listing, self.shown)])
        product = self.product
        parts.append("< Prev")
        if self._page == "item":
            parts.append(_item(product))
        elif self._page == "description":
            parts.append(product.description)
        elif self._page == "features":
            parts += product.bullets
        return _SEPARATOR.join(part for part in parts if part)

    def _clickable(self) -> list[str]:
        """The values that can be clicked on the page, in small letters as actions have them."""
        if self._page == "search":
            return []
        if self._page == "results":
            previous = ["< prev"] if self._page_number > 1 else []
            return ["back to search", *previous, "next >", *(product.asin.lower() for product in self.shown)]
        buttons = ["back to search", "< prev"]
        if self._page != "item":
            return buttons
        options = [value for values in self.product.options.values() for value in values]
        return [*buttons, "description", "features", "reviews", "buy now", *options]

    # -- actions --------------------------------------------------------------------------------------------------

    def _act(self, action: str) -> Outcome:
        match = _ACTION.match(action.strip())
        verb, value = (match[1], match[2].lower()) if match else ("", "")
        if verb == "search":
            self._page, self._hits, self._page_number = "results", self._shop.search(value), 1
            self._asin, self._chosen = "", {}
        elif verb == "click" and value in self._clickable():
            if value == "buy now":
                return self._buy()
            self._click(value)
        else:
            return Outcome(self._explain_format(), self._score)
        return Outcome(self._text(), self._score)

    def _click(self, value: str) -> None:
        if value == "back to search":
            self._to_search()
        elif self._page == "results":
            if value in ("next >", "< prev"):
                self._page_number += 1 if value == "next >" else -1
            else:
                self._page, self._asin = "item", next(p.asin for p in self.shown if p.asin.lower() == value)
        elif value == "< prev":
            if self._page == "item":
                self._page, self._asin, self._chosen = "results", "", {}
            else:
                self._page = "item"
        elif value in ("description", "features", "reviews"):
            self._page = value  # type: ignore[assignment]
        else:
            name = next(name for name, values in reversed(self.product.options.items()) if value in values)
            self._chosen[name] = value

    def _buy(self) -> Outcome:
        score = reward(self.product, self._goal, self._chosen)
        text = f"Thank you for shopping with us! [SEP] Your score (min 0.0, max 1.0) [SEP] {score}"
        return Outcome(text, score, success=score == 1, done=True)

    def _explain_format(self) -> str:
        return f"{_HELP}\n\n{self._text()}"

    def valid_actions(self) -> list[str]:
        if not self.running:
            return []
        if self._page == "search":
            return [f"search[{self._goal.instruction.partition(', and price')[0][:200].replace(']', ' ')}]"]
        return sorted({f"click[{value}]" for value in self._clickable()})

    def looks(self) -> list[str]:
        """None: every page that can be clicked on is a state of its own."""
        return []

    def expert(self) -> WebShopExpert:
        return WebShopExpert(self)

    def _save(self) -> _Inner:
        chosen = tuple(self._chosen.items())
        return self._task, self._split, self._page, self._hits, self._page_number, self._asin, chosen

    def _load(self, inner: _Inner) -> None:
        task, split, self._page, self._hits, self._page_number, self._asin, chosen = inner
        self._chosen = dict(chosen)
        self._enter(task, split)


def _listing(product: Product) -> str:
    """A product among the results."""
    return f"{product.asin} [SEP] {product.title} [SEP] {product.price_tag}"


def _item(product: Product) -> str:
    """A product's own page; no product has a rating, as in AgentGym."""
    parts = [part for name, values in product.options.items() for part in (name, *values)]
    parts += [product.title, f"Price: {product.price_tag}", "Rating: N.A."]
    return _SEPARATOR.join([*parts, "Description", "Features", "Reviews", "Buy Now"])
