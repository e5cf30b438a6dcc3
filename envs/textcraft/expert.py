"""Plans a TextCraft goal from the crafting commands and what is held, and says why it takes each step.

It knows what the commands show: an item that has a command must be crafted, any other can be got. It holds no
state, so it can take over an episode at any step.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from envs.textcraft.tasks import Ingredient, Recipe, recipe_book

if TYPE_CHECKING:
    from envs.textcraft.env import TextCraftEnv


@dataclass(frozen=True)
class _Step:
    """Get `count` of `item` (no recipe), or craft `item` by `recipe`, on the way down `path` to the goal."""

    item: str
    count: int
    recipe: Recipe | None
    using: tuple[tuple[int, str], ...]
    path: tuple[tuple[Recipe, Ingredient, int], ...]
    """From the goal's recipe down: which recipe asks for which ingredient, and how many in all."""


class TextCraftExpert:
    """Crafts depth first: the ingredients of the goal in the order its command names them."""

    def __init__(self, env: TextCraftEnv) -> None:
        self._env = env
        self._book = recipe_book()

    def next_action(self, observation: str) -> tuple[str, str]:
        """The first step of a plan made from the present inventory; see `Expert`."""
        self._free = self._env.inventory
        self._shown = {recipe: n for n, recipe in enumerate(self._env.commands)}
        step = next(self._make(self._env.goal, 1, ()))
        first = self._env.rounds == 0
        if step.recipe is None:
            return self._plan(step) if first else self._why_get(step), f"get {step.count} {step.item}"
        using = ", ".join(f"{count} {item}" for count, item in step.using)
        return self._why_craft(step), f"craft {step.recipe.count} {step.item} using {using}"

    # -- planning -------------------------------------------------------------------------------------------------

    def _best(self, name: str) -> Recipe:
        def rank(recipe: Recipe) -> tuple[float, int]:
            effort = sum(self._book.effort.get(i.name, 1) for i in recipe.ingredients)
            return effort, self._shown.get(recipe, len(self._shown))

        return min(self._book.ways(name), key=rank)

    def _choose(self, need: Ingredient, count: int) -> str:
        """The item for an ingredient: itself, or one of its kind, preferring what is held."""
        if not need.generic:
            return need.name
        for item, held in self._free.items():
            if held >= count and self._book.fits(item, need):
                return item
        return self._best(need.name).item

    def _make(self, item: str, count: int, path: tuple[tuple[Recipe, Ingredient, int], ...]) -> Iterator[_Step]:
        """The steps until `count` of `item` are held and set aside."""
        missing = count - self._free.get(item, 0)
        if missing > 0:
            if not self._book.ways(item):
                yield _Step(item, missing, None, (), path)
                self._free[item] = count
            else:
                recipe = self._best(item)
                times = math.ceil(missing / recipe.count)
                using = []
                for need in recipe.ingredients:
                    chosen = self._choose(need, need.count * times)
                    total = need.count * times
                    yield from self._make(chosen, total, (*path, (recipe, need, total)))
                    using.append((need.count, chosen))
                for _ in range(times):
                    yield _Step(item, recipe.count, recipe, tuple(using), path)
                self._free[item] = self._free.get(item, 0) + times * recipe.count
        self._free[item] -= count

    # -- reasons --------------------------------------------------------------------------------------------------

    def _plan(self, step: _Step) -> str:
        sentences = [f"To craft {self._env.goal} I need {step.path[0][0].needs}."]
        for (_, need, _), (recipe, _, _) in zip(step.path, step.path[1:], strict=False):
            kind = f"For {need.name} I take {recipe.item}. " if need.generic else ""
            sentences.append(f"{kind}{recipe.item} needs {recipe.needs}.")
        return " ".join([*sentences, f"So first I get {step.count} {step.item}."])

    def _why_get(self, step: _Step) -> str:
        recipe, need, total = step.path[-1]
        held = self._env.inventory
        have = [f"{min(held[i.name], i.count)} {i.name}" for i in recipe.ingredients if held.get(i.name)]
        owned = f" I have {', '.join(have)}." if have else ""
        many = f" I need {total} {need.name} in all." if total > need.count else ""
        return f"{recipe.item} needs {recipe.needs}.{owned}{many} So next I get {step.count} {step.item}."

    def _why_craft(self, step: _Step) -> str:
        assert step.recipe is not None
        using = ", ".join(f"{count} {item}" for count, item in step.using)
        if not step.path:
            return f"I have {using}, all that the goal needs. So now I craft {step.count} {step.item}."
        recipe, need, total = step.path[-1]
        kind = f", and {step.item} will do" if need.generic else ""
        return f"{recipe.item} needs {total} {need.name}{kind}. I have {using}, so I craft {step.count} {step.item}."
