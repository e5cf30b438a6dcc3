"""Weather's tasks: questions made from templates, with answers computed from the climate.

How the experts answer the templates is in `expert.py`.
"""

from __future__ import annotations

import random
from datetime import date, timedelta
from functools import cache

from envs.tools.tasks import Answer, Task, TaskSet, generate, template
from envs.weather import climate, expert
from envs.weather.backend import distance_km
from envs.weather.places import Place, gazetteer

_WHICH = {"highest": "high", "lowest": "low", "mean": "mean"}


@cache
def tasks() -> TaskSet:
    """The generated tasks: 200 for training, 20 for tests."""
    return generate("weather", TEMPLATES)


@cache
def _cities() -> list[Place]:
    return gazetteer().well_known()


def _someday(rng: random.Random) -> date:
    return date(2016, 1, 1) + timedelta(rng.randrange(365 * 8))


def _setting(today: date, city: Place) -> dict[str, str]:
    return {"current_date": today.isoformat(), "current_location": city.name}


def _weather(city: Place, day: date) -> climate.Day:
    return climate.day(*climate.grid(city.latitude, city.longitude), day.toordinal())


def _span(city: Place, start: date, n: int) -> list[climate.Day]:
    return [_weather(city, start + timedelta(i)) for i in range(n)]


def _past_temperature(rng: random.Random) -> Task:
    city, today, which = rng.choice(_cities()), _someday(rng), rng.choice(sorted(_WHICH))
    day = today - timedelta(rng.randrange(30, 400))
    return Task(
        f"What was the {which} temperature in {city.name} on {day}? Give it in Celsius, as a number.",
        Answer(getattr(_weather(city, day), _WHICH[which])),
        _setting(today, rng.choice(_cities())),
        {"city": city.name, "day": day.isoformat(), "which": which},
    )


def _yesterday_here(rng: random.Random) -> Task:
    city, today, which = rng.choice(_cities()), _someday(rng), rng.choice(sorted(_WHICH))
    goal = f"What was the {which} temperature yesterday where I am? Please answer in Celsius, as a number."
    value = getattr(_weather(city, today - timedelta(1)), _WHICH[which])
    return Task(goal, Answer(value), _setting(today, city), {"which": which})


def _elevation(rng: random.Random) -> Task:
    city = rng.choice(_cities())
    return Task(
        f"I am off to {city.name}. How high above sea level does it lie? Give me metres, as a number.",
        Answer(climate.elevation(city.latitude, city.longitude)),
        _setting(_someday(rng), rng.choice(_cities())),
        {"city": city.name},
    )


def _highest_city(rng: random.Random) -> Task | None:
    cities = rng.sample(_cities(), 3)
    heights = sorted(((climate.elevation(c.latitude, c.longitude), c.name) for c in cities), reverse=True)
    if heights[0][0] == heights[1][0]:
        return None
    names = [city.name for city in cities]
    return Task(
        f"Which of these cities lies highest: {names[0]}, {names[1]} or {names[2]}? Answer with its name.",
        Answer(heights[0][1]),
        _setting(_someday(rng), rng.choice(_cities())),
        {"cities": names},
    )


def _distance(rng: random.Random) -> Task:
    one, other = rng.sample(_cities(), 2)
    km = distance_km(one.latitude, one.longitude, other.latitude, other.longitude)
    return Task(
        f"How far is it from {one.name} to {other.name}? Answer with a number of kilometres, rounded to a whole one.",
        Answer(round(km)),
        _setting(_someday(rng), rng.choice(_cities())),
        {"cities": [one.name, other.name]},
    )


def _warmer_tomorrow(rng: random.Random) -> Task | None:
    one, other = rng.sample(_cities(), 2)
    today = _someday(rng)
    highs = [_weather(city, today + timedelta(1)).high for city in (one, other)]
    if highs[0] == highs[1]:
        return None
    return Task(
        f"Will the day be warmer tomorrow in {one.name} or in {other.name}, going by the highest temperature? "
        "Answer with the name of the city.",
        Answer((one if highs[0] > highs[1] else other).name),
        _setting(today, rng.choice(_cities())),
        {"cities": [one.name, other.name]},
    )


def _against_last_year(rng: random.Random) -> Task | None:
    city, today = rng.choice(_cities()), _someday(rng)
    if (today.month, today.day) == (2, 29):
        return None
    now, then = _weather(city, today).mean, _weather(city, today.replace(year=today.year - 1)).mean
    if now == then:
        return None
    return Task(
        "Going by mean temperatures, is it warmer or colder here today than on the same day last year? Answer 'warmer' "
        "or 'colder'.",
        Answer("warmer" if now > then else "colder"),
        _setting(today, city),
    )


def _rain_total(rng: random.Random) -> Task:
    city, today, n = rng.choice(_cities()), _someday(rng), rng.randrange(3, 8)
    return Task(
        f"How much rain fell in {city.name} in the last {n} days, today not counted? Give the sum in mm, as a number.",
        Answer(round(sum(day.rain for day in _span(city, today - timedelta(n), n)), 1)),
        _setting(today, rng.choice(_cities())),
        {"city": city.name, "n": n},
    )


def _snow_coming(rng: random.Random) -> Task | None:
    city, today, n = rng.choice(_cities()), _someday(rng), rng.randrange(3, 11)
    days = _span(city, today + timedelta(1), n)
    # Where it never snows the question is dull: half of the kept draws have snow.
    if min(day.mean for day in days) > 6 or any(day.snow > 0 for day in days) != (rng.random() < 0.5):
        return None
    return Task(
        f"Is snow forecast for {city.name} within the next {n} days, today not counted? Answer 'Yes' or 'No'.",
        Answer("Yes" if any(day.snow > 0 for day in days) else "No"),
        _setting(today, rng.choice(_cities())),
        {"city": city.name, "n": n},
    )


def _coldest_day(rng: random.Random) -> Task | None:
    city, today = rng.choice(_cities()), _someday(rng)
    if today.day < 4:
        return None
    means = [day.mean for day in _span(city, today.replace(day=1), today.day - 1)]
    if means.count(min(means)) > 1:
        return None
    return Task(
        "Which day of this month before today had the lowest mean temperature here? Answer as YYYY-MM-DD.",
        Answer(today.replace(day=1 + means.index(min(means))).isoformat()),
        _setting(today, city),
    )


def _air_level(rng: random.Random) -> Task:
    city, today = rng.choice(_cities()), _someday(rng)
    index = _weather(city, today).air
    names = ("good", "fair", "moderate", "poor", "very poor")
    level = names[max(0, (index - 1) // 20)] if index <= 100 else "extremely poor"
    return Task("How good is the air here today? Answer with its level in words.", Answer(level), _setting(today, city))


def _cleaner_air(rng: random.Random) -> Task | None:
    one, other = rng.sample(_cities(), 2)
    today = _someday(rng)
    values = [_weather(city, today - timedelta(1)).air for city in (one, other)]
    if values[0] == values[1]:
        return None
    return Task(
        f"Which city had the cleaner air yesterday, {one.name} or {other.name}? Answer with the name of the city.",
        Answer((one if values[0] < values[1] else other).name),
        _setting(today, rng.choice(_cities())),
        {"cities": [one.name, other.name]},
    )


def _weekend_range(rng: random.Random) -> Task:
    city, today = rng.choice(_cities()), _someday(rng)
    saturday = next(day for i in range(1, 8) if (day := today + timedelta(i)).isoweekday() == 6)
    days = _span(city, saturday, 2)
    return Task(
        "Between which temperatures will it be here on the coming weekend, the next Saturday after today and the "
        "Sunday after it? Answer with the lowest and the highest in Celsius, as an array of two numbers.",
        Answer([min(day.low for day in days), max(day.high for day in days)]),
        _setting(today, city),
    )


def _rainiest_day(rng: random.Random) -> Task | None:
    city, today = rng.choice(_cities()), _someday(rng)
    rain = [day.rain for day in _span(city, today + timedelta(1), 7)]
    if rain.count(max(rain)) > 1:
        return None
    return Task(
        f"On which of the seven days after today will it rain most in {city.name}? Answer as YYYY-MM-DD.",
        Answer((today + timedelta(1 + rain.index(max(rain)))).isoformat()),
        _setting(today, rng.choice(_cities())),
        {"city": city.name},
    )


def _umbrella(rng: random.Random) -> Task | None:
    city, today = rng.choice(_cities()), _someday(rng)
    tomorrow = _weather(city, today + timedelta(1))
    if (tomorrow.rain > 0) != (rng.random() < 0.5):
        return None
    return Task(
        f"If it will rain in {city.name} tomorrow, tell me how many mm; if not, tell me tomorrow's highest temperature "
        "there in Celsius. Answer with a number.",
        Answer(tomorrow.rain if tomorrow.rain > 0 else tomorrow.high),
        _setting(today, rng.choice(_cities())),
        {"city": city.name},
    )


TEMPLATES = (
    template(_past_temperature, expert.past_temperature, easy=True),
    template(_yesterday_here, expert.yesterday_here),
    template(_elevation, expert.elevation, easy=True),
    template(_highest_city, expert.highest_city),
    template(_distance, expert.distance, easy=True),
    template(_warmer_tomorrow, expert.warmer_tomorrow),
    template(_against_last_year, expert.against_last_year),
    template(_rain_total, expert.rain_total, easy=True),
    template(_snow_coming, expert.snow_coming, easy=True),
    template(_coldest_day, expert.coldest_day),
    template(_air_level, expert.air_level),
    template(_cleaner_air, expert.cleaner_air),
    template(_weekend_range, expert.weekend_range),
    template(_rainiest_day, expert.rainiest_day, easy=True),
    template(_umbrella, expert.umbrella),
)
