"""The TextCraft expert: plans from the crafting commands and the inventory, and explains each step.

It knows what the commands show: an item with a command must be crafted, any other item can be got. It keeps no state
between steps, so it can take over an episode at any step.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from envs.textcraft.tasks import Ingredient, Recipe, recipe_book

if TYPE_CHECKING:
    from envs.textcraft.env import TextCraftEnv


@dataclass(frozen=True, slots=True)
class _Need:
    """`recipe` has to make `wanted` of its item and asks for `total` of `ingredient` for that."""

    recipe: Recipe
    ingredient: Ingredient
    wanted: int
    total: int


@dataclass(frozen=True, slots=True)
class _Step:
    """Get `count` of `item` (no recipe), or craft `item` by `recipe`; `path` leads down from the goal."""

    item: str
    count: int
    recipe: Recipe | None
    using: str
    path: tuple[_Need, ...]


class TextCraftExpert:
    """Crafts depth first: the ingredients of the goal in the order in which its command names them."""

    def __init__(self, env: TextCraftEnv) -> None:
        self._env = env
        self._book = recipe_book()
        self._shown: dict[Recipe, int] = {}

    def next_action(self, observation: str) -> tuple[str, str]:
        """The first step of a plan made from the present inventory; see `Expert`."""
        self._shown = {recipe: index for index, recipe in enumerate(self._env.commands)}
        step = next(self._make(self._env.goal, 1, self._env.inventory, ()))
        if step.recipe is not None:
            return self._why_craft(step), f"craft {step.count} {step.item} using {step.using}"
        thought = self._why_get(step) if self._env.rounds else self._plan(step)
        return thought, f"get {step.count} {step.item}"

    # -- planning -------------------------------------------------------------------------------------------------

    def _make(self, item: str, count: int, free: dict[str, int], path: tuple[_Need, ...]) -> Iterator[_Step]:
        """The steps until `count` of `item` are held, which it takes out of `free`, the uncommitted inventory."""
        missing = count - free.get(item, 0)
        if missing > 0:
            if self._book.ways(item):
                recipe = self._best(item, missing, free)
                yield from self._craft(recipe, missing, free, path)
            else:
                yield _Step(item, missing, None, "", path)
                free[item] = count
        free[item] -= count

    def _craft(self, recipe: Recipe, wanted: int, free: dict[str, int], path: tuple[_Need, ...]) -> Iterator[_Step]:
        times = math.ceil(wanted / recipe.count)
        using = []
        for ingredient in recipe.ingredients:
            total = ingredient.count * times
            chosen = self._choose(ingredient, total, free)
            yield from self._make(chosen, total, free, (*path, _Need(recipe, ingredient, wanted, total)))
            using.append(f"{ingredient.count} {chosen}")
        for _ in range(times):
            yield _Step(recipe.item, recipe.count, recipe, ", ".join(using), path)
            free[recipe.item] = free.get(recipe.item, 0) + recipe.count

    def _choose(self, ingredient: Ingredient, total: int, free: dict[str, int]) -> str:
        """The item for an ingredient: itself, or one of its kind, preferring what is held."""
        if not ingredient.generic:
            return ingredient.name
        for item, held in free.items():
            if held >= total and self._book.fits(item, ingredient):
                return item
        return self._best(ingredient.name, total, free).item

    def _best(self, name: str, wanted: int, free: dict[str, int]) -> Recipe:
        """The way to make `wanted` of an item, or of any item of a kind, in the fewest steps; else shown first."""
        ways = self._book.ways(name)
        if len(ways) == 1:
            return ways[0]

        def rank(recipe: Recipe) -> tuple[int, int]:
            n_steps = sum(1 for _ in self._craft(recipe, wanted, dict(free), ()))
            return n_steps, self._shown.get(recipe, len(self._shown))

        return min(ways, key=rank)

    # -- reasons --------------------------------------------------------------------------------------------------

    def _plan(self, step: _Step) -> str:
        sentences = [f"To craft {self._env.goal} I need {step.path[0].recipe.needs}."]
        for above, need in zip(step.path, step.path[1:], strict=False):
            made = need.recipe.item
            kind = f"For {above.ingredient.name} I take {made}. " if above.ingredient.generic else ""
            sentences.append(f"{kind}{made} needs {need.recipe.needs}.")
        return f"{' '.join(sentences)} {self._amount(step)}So first I get {step.count} {step.item}."

    def _why_get(self, step: _Step) -> str:
        recipe = step.path[-1].recipe
        held = self._env.inventory
        have = ", ".join(f"{held[i.name]} {i.name}" for i in recipe.ingredients if held.get(i.name))
        owned = f"I have {have}. " if have else ""
        return f"{owned}{recipe.item} needs {recipe.needs}. {self._amount(step)}So next I get {step.count} {step.item}."

    def _amount(self, step: _Step) -> str:
        """Why it takes more than the command names, where it does."""
        need = step.path[-1]
        if need.total == need.ingredient.count:
            return ""
        return f"For {need.wanted} {need.recipe.item} I need {need.total} {need.ingredient.name}. "

    def _why_craft(self, step: _Step) -> str:
        if not step.path:
            return f"I have {step.using}, all that the goal needs. So now I craft {step.count} {step.item}."
        need = step.path[-1]
        made = self._env.inventory.get(step.item, 0)
        so_far = f" and I have {made} so far" if made else ""
        kind = f", {step.item} will do" if need.ingredient.generic else ""
        wants = f"{need.recipe.item} needs {need.total} {need.ingredient.name}{kind}{so_far}."
        return f"{wants} I have {step.using}, so I craft {step.count} {step.item}."
