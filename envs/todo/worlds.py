"""Start states of the generated tasks: to-do lists drawn from a catalogue of projects, with dates around "today".

A world is a pure function of its seed. Reading upstream's own start state from a file is in `files.py`.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from datetime import date, timedelta
from functools import lru_cache
from typing import NamedTuple

from envs.todo.store import COLOR, Item, Project, World

MINUTES = (15, 20, 25, 30, 40, 45, 50, 60, 75, 90, 120)
CITIES = ("Lisbon", "Toronto", "Nairobi", "Oslo", "Kyoto", "Lima", "Dublin", "Prague", "Auckland", "Bologna")


class _Entry(NamedTuple):
    content: str
    place: str
    detail: str


def _entries(*rows: tuple[str, str, str]) -> tuple[_Entry, ...]:
    return tuple(_Entry(*row) for row in rows)


CATALOGUE: dict[str, tuple[_Entry, ...]] = {
    "Garden Season": _entries(
        ("Sow the tomato seeds", "Greenhouse", "Tips: two seeds to a pot, keep them warm"),
        ("Prune the apple tree", "Back garden", "Tools: secateurs and a short ladder"),
        ("Repair the garden fence", "Back garden", "Materials: six posts, wire and a mallet"),
        ("Turn the compost", "Back garden", "Tips: add dry leaves if it smells"),
        ("Order spring bulbs", "Home office", "Budget: at most 40 euros"),
        ("Clean the rain barrel", "Back garden", "Tools: stiff brush and gloves"),
    ),
    "Kitchen Renovation": _entries(
        ("Measure the kitchen walls", "Kitchen", "Tools: laser measure and a notebook"),
        ("Compare three oven models", "Home office", "Keys: width, energy label, price"),
        ("Collect the floor tiles", "Builders' market", "Order number: 5581"),
        ("Call the electrician", "Home office", "Ask for: two more sockets by the window"),
        ("Paint the kitchen ceiling", "Kitchen", "Materials: white emulsion, roller, dust sheets"),
        ("Empty the old cupboards", "Kitchen", "Tips: label every box"),
    ),
    "Thesis Writing": _entries(
        ("Summarise five papers", "University library", "Topic: soil moisture sensors"),
        ("Draft the method chapter", "University library", "Length: eight pages"),
        ("Plot the sensor results", "Computer lab", "Format: vector graphics, one column wide"),
        ("Meet the thesis advisor", "Room 214", "Bring: the draft and a list of questions"),
        ("Check all references", "University library", "Style: numbered, by order of appearance"),
        ("Book the defence room", "Student office", "Form: B-7, signed by the advisor"),
    ),
    "Marathon Training": _entries(
        ("Run ten kilometres", "River path", "Pace: six minutes a kilometre"),
        ("Do hill repeats", "Castle hill", "Sets: eight, walk down between them"),
        ("Swim forty lengths", "City pool", "Stroke: half of them on the back"),
        ("Stretch and foam roll", "Living room", "Tips: two minutes for each leg"),
        ("Buy new running shoes", "Sports shop", "Model: the neutral ones, half a size up"),
        ("Plan the weekly meals", "Kitchen", "Keys: more carbohydrates on Friday"),
    ),
    "Client Website": _entries(
        ("Sketch the landing page", "Home office", "Format: paper, three variants"),
        ("Write the product texts", "Cafe Central", "Length: at most eighty words each"),
        ("Test the contact form", "Home office", "Browsers: the four most used ones"),
        ("Present the first version", "Client's office", "Contact: Ms. Okafor, second floor"),
        ("Compress the photographs", "Home office", "Format: 1600 pixels wide"),
        ("Renew the domain", "Home office", "Contact: the registrar's help desk"),
    ),
    "Moving House": _entries(
        ("Pack the bookshelves", "Living room", "Materials: twenty small boxes"),
        ("Cancel the gas contract", "Home office", "Customer number: 77-3120"),
        ("Hand over the old keys", "Old flat", "Contact: Mr. Lindqvist, caretaker"),
        ("Rent a moving van", "Van rental", "Size: at least twelve cubic metres"),
        ("Register the new address", "Town hall", "Bring: passport and rental contract"),
        ("Assemble the wardrobe", "New flat", "Tools: cordless screwdriver"),
    ),
    "Choir Concert": _entries(
        ("Rehearse the second half", "Music school", "Keys: bars 40 to 96, softer"),
        ("Print the programmes", "Copy shop", "Number: 150, folded"),
        ("Tune the concert piano", "Concert hall", "Contact: Ms. Ferreira"),
        ("Invite the local newspaper", "Home office", "Deadline for the editors: Thursday noon"),
        ("Iron the choir shirts", "Laundry room", "Number: twenty-two"),
        ("Arrange the stage chairs", "Concert hall", "Plan: three rows, eight chairs each"),
    ),
    "Science Club": _entries(
        ("Order magnets and wire", "Home office", "Budget: 60 euros from the club's purse"),
        ("Build the wind turbine model", "School workshop", "Materials: cardboard, motor, glue"),
        ("Prepare the microscope slides", "School laboratory", "Samples: onion skin and pond water"),
        ("Write the club report", "School library", "Length: two pages"),
        ("Photograph the experiments", "School laboratory", "Tips: no flash near the glass"),
        ("Return the borrowed scales", "School laboratory", "Contact: Dr. Haddad"),
    ),
    "Family Visit": _entries(
        ("Prepare the guest room", "Guest room", "Bring: fresh sheets and a lamp"),
        ("Bake a plum cake", "Kitchen", "Recipe: the one on the blue card"),
        ("Book the boat trip", "Harbour office", "Seats: six, one of them for a child"),
        ("Pick up the grandparents", "Central station", "Platform: 4"),
        ("Wash the car", "Garage", "Tips: do not forget the mats"),
        ("Frame the family photo", "Photo shop", "Size: thirty by forty"),
    ),
    "Language Course": _entries(
        ("Learn forty new verbs", "Train to work", "Method: cards, ten a day"),
        ("Write a letter in Spanish", "University library", "Topic: my last holiday"),
        ("Meet the tandem partner", "Cafe Central", "Contact: Alba, half of the time in each language"),
        ("Watch a film without subtitles", "Living room", "Tips: note ten words"),
        ("Take the placement test", "Language school", "Bring: identity card"),
        ("Correct the grammar exercises", "University library", "Pages: 31 to 36"),
    ),
    "Bicycle Workshop": _entries(
        ("Replace the brake cables", "Garage", "Materials: two inner cables, grease"),
        ("True the rear wheel", "Garage", "Tools: spoke key and stand"),
        ("Order winter tyres", "Home office", "Size: 28 inches, 40 millimetres"),
        ("Lead the Saturday repair class", "Community centre", "Participants: nine"),
        ("Sort the donated parts", "Community centre", "Tips: throw nothing away with a serial number"),
        ("Oil all club bicycles", "Community centre", "Number: fourteen"),
    ),
    "Annual Accounts": _entries(
        ("Scan the travel receipts", "Home office", "Format: one file a month"),
        ("Reconcile the bank account", "Home office", "Period: July to December"),
        ("Call the tax adviser", "Home office", "Contact: Mr. Brandt, mornings only"),
        ("File the insurance letters", "Home office", "Folder: the red one"),
        ("Pay the chamber fee", "Bank branch", "Amount: 184 euros"),
        ("Draft next year's budget", "Cafe Central", "Keys: rent, software, travel"),
    ),
}  # fmt: skip


@lru_cache(maxsize=512)
def world(seed: int, sizes: Sequence[int]) -> World:
    """The to-do list of a seed, with a project of each of these sizes (tasks, six at most)."""
    rng = random.Random(f"todo world {seed} {tuple(sizes)}")
    today = date(2024, 1, 8) + timedelta(days=rng.randrange(900))
    names = rng.sample(sorted(CATALOGUE), len(sizes))
    projects = tuple(
        Project(name, tuple(_item(entry, today, rng) for entry in rng.sample(CATALOGUE[name], size)))
        for name, size in zip(names, sizes)
    )
    return World(projects, today.isoformat(), rng.choice(CITIES), 2_300_000_000 + 1000 * rng.randrange(10_000))


def _item(entry: _Entry, today: date, rng: random.Random) -> Item:
    return Item(
        content=entry.content,
        description=f"- Place: {entry.place}\n- {entry.detail}",
        due_date=(today + timedelta(days=rng.randint(-6, 21))).isoformat(),
        duration=rng.choice(MINUTES),
        duration_unit="minute",
        priority=rng.randint(1, 4),
    )


def final_state(
    start: World,
    *,
    gone: Sequence[Item] = (),
    due: dict[str, str] | None = None,
    favorite: str | None = None,
) -> dict[str, list[dict[str, object]]]:
    """The state that `TodoStore.state` gives after changes: tasks gone, new due dates by content, a new favourite."""
    projects = [
        {"order": n, "color": COLOR, "name": project.name, "is_favorite": project.name == favorite}
        for n, project in enumerate(start.projects, 1)
    ]
    tasks = [
        {
            "order": n, "content": item.content, "is_completed": False, "priority": item.priority,
            "due_date": (due or {}).get(item.content, item.due_date),
        }
        for project in start.projects
        for n, item in enumerate(project.items, 1)
        if item not in gone
    ]  # fmt: skip
    return {"projects": projects, "tasks": tasks}
