"""How Weather's questions are answered with its tools alone: one play for each template of `tasks.py`.

A play sees the task's parameters (the cities, spans and measures that its goal names in words) and what the tools
return, never the climate itself.
"""

from __future__ import annotations

from collections.abc import Generator
from datetime import date, timedelta
from typing import Any

from envs.tools.tasks import Play, Step, Task, finish, use

VARIABLE = {"highest": "temperature_2m_max", "lowest": "temperature_2m_min", "mean": "temperature_2m_mean"}

Point = dict[str, float]
Find = Generator[Step, Any, Point]
_Today = Generator[Step, Any, date]
_Here = Generator[Step, Any, tuple[str, Point]]


def _find(city: str, why: str) -> Find:
    found = yield use(f"{why} I look up the coordinates of {city}.", "get_latitude_longitude", name=city)
    best = found["results"][0]
    return {"latitude": best["latitude"], "longitude": best["longitude"]}


def _today(why: str) -> _Today:
    return date.fromisoformat((yield use(f"{why} I ask for today's date.", "get_user_current_date")))


def _here(why: str) -> _Here:
    city = yield use(f"{why} I ask where the user is.", "get_user_current_location")
    return city, (yield from _find(city, f"The user is in {city}."))


def _days(start: date, end: date | None = None) -> dict[str, str]:
    return {"start_date": start.isoformat(), "end_date": (end or start).isoformat()}


def past_temperature(task: Task) -> Play:
    city, day, which = task.parameters["city"], task.parameters["day"], task.parameters["which"]
    point = yield from _find(city, f"The question is about {city} on {day}.")
    thought = f"{day} is a past day, so the historical temperature has the {which} value."
    found = yield use(thought, "get_historical_temp", **point, **_days(date.fromisoformat(day)))
    value = found["daily"][VARIABLE[which]][0]
    yield finish(f"The {which} temperature in {city} on {day} was {value} °C.", value)


def yesterday_here(task: Task) -> Play:
    which = task.parameters["which"]
    city, point = yield from _here("The question is about the user's own city.")
    today = yield from _today("To know which day yesterday was,")
    day = today - timedelta(1)
    thought = f"Today is {today}, so yesterday was {day}. I look up the past temperature of {city}."
    found = yield use(thought, "get_historical_temp", **point, **_days(day))
    value = found["daily"][VARIABLE[which]][0]
    yield finish(f"The {which} temperature yesterday was {value} °C.", value)


def elevation(task: Task) -> Play:
    city = task.parameters["city"]
    point = yield from _find(city, "An elevation is looked up by coordinates.")
    found = yield use(f"With the coordinates of {city} I can ask for its elevation.", "get_elevation", **point)
    value = found["elevation"][0]
    yield finish(f"{city} lies {value} m high.", value)


def highest_city(task: Task) -> Play:
    heights: dict[str, float] = {}
    for city in task.parameters["cities"]:
        known = ", ".join(f"{name} lies {height} m high" for name, height in heights.items())
        point = yield from _find(city, f"{known}." if heights else "I compare the elevations of three cities.")
        found = yield use(f"Now I ask how high {city} lies.", "get_elevation", **point)
        heights[city] = found["elevation"][0]
    best = max(heights, key=lambda city: heights[city])
    listed = ", ".join(f"{city} {height} m" for city, height in heights.items())
    yield finish(f"The elevations are {listed}, so {best} lies highest.", best)


def distance(task: Task) -> Play:
    one, other = task.parameters["cities"]
    first = yield from _find(one, "A distance needs the coordinates of both cities.")
    second = yield from _find(other, f"I have {one}.")
    found = yield use(
        f"With both coordinates I can work out the distance between {one} and {other}.",
        "get_distance",
        latitude1=first["latitude"],
        longitude1=first["longitude"],
        latitude2=second["latitude"],
        longitude2=second["longitude"],
    )
    yield finish(f"The distance is {found} km, {round(found)} km when rounded.", round(found))


def warmer_tomorrow(task: Task) -> Play:
    today = yield from _today("Tomorrow depends on the user's date.")
    day = today + timedelta(1)
    highs: dict[str, float] = {}
    for city in task.parameters["cities"]:
        known = f"The forecast for {', '.join(highs)} is {', '.join(map(str, highs.values()))} °C."
        point = yield from _find(city, known if highs else f"Tomorrow is {day}.")
        found = yield use(f"I ask for the forecast of {city} for {day}.", "get_temp_forecast", **point, **_days(day))
        highs[city] = found["daily"][VARIABLE["highest"]][0]
    best = max(highs, key=lambda city: highs[city])
    listed = " and ".join(f"{high} °C in {city}" for city, high in highs.items())
    yield finish(f"Tomorrow's highs are {listed}, so it will be warmer in {best}.", best)


def against_last_year(task: Task) -> Play:
    city, point = yield from _here("I compare two days in the user's city.")
    today = yield from _today("Both days follow from today.")
    now = yield use(
        f"Today is {today}. I look up today's temperature in {city}.",
        "get_current_temp",
        **point,
        current_date=today.isoformat(),
    )
    day = today.replace(year=today.year - 1)
    mean = now["daily"][VARIABLE["mean"]][0]
    thought = f"Today's mean is {mean} °C. Now I need the same day a year ago, {day}."
    then = (yield use(thought, "get_historical_temp", **point, **_days(day)))["daily"][VARIABLE["mean"]][0]
    word = "warmer" if mean > then else "colder"
    yield finish(f"Today's mean is {mean} °C and a year ago it was {then} °C, so today is {word}.", word)


def rain_total(task: Task) -> Play:
    city, n = task.parameters["city"], task.parameters["n"]
    point = yield from _find(city, f"I need the rain of the last {n} days in {city}.")
    today = yield from _today("The span ends yesterday.")
    thought = f"The {n} days before {today} begin on {today - timedelta(n)}. I look up their rain."
    found = yield use(thought, "get_historical_rain", **point, **_days(today - timedelta(n), today - timedelta(1)))
    values = found["daily"]["rain_sum"]
    total = round(sum(values), 1)
    yield finish(f"The sum of {', '.join(map(str, values))} is {total} mm.", total)


def snow_coming(task: Task) -> Play:
    city, n = task.parameters["city"], task.parameters["n"]
    point = yield from _find(city, f"I need the snow forecast for {city}.")
    today = yield from _today("The forecast begins tomorrow.")
    thought = f"Today is {today}, so the next {n} days end on {today + timedelta(n)}. I ask for their snowfall."
    found = yield use(thought, "get_snow_forecast", **point, **_days(today + timedelta(1), today + timedelta(n)))
    snow = [value for value in found["daily"]["snowfall_sum"] if value > 0]
    word = "Yes" if snow else "No"
    yield finish(f"Snow is forecast on {len(snow)} of these days, so the answer is {word}.", word)


def coldest_day(task: Task) -> Play:
    city, point = yield from _here("The question is about the user's city.")
    today = yield from _today("The month so far ends yesterday.")
    first = today.replace(day=1)
    thought = f"Today is {today}. I look up the temperatures in {city} from {first} to yesterday."
    found = yield use(thought, "get_historical_temp", **point, **_days(first, today - timedelta(1)))
    means = found["daily"][VARIABLE["mean"]]
    lowest = min(means)
    day = found["daily"]["time"][means.index(lowest)]
    yield finish(f"The lowest daily mean is {lowest} °C, on {day}.", day)


def air_level(task: Task) -> Play:
    city, point = yield from _here("The question is about the air where the user is.")
    today = yield from _today("For the current air quality")
    thought = f"I look up today's air quality index in {city}."
    found = yield use(thought, "get_current_air_quality_index", **point, current_date=today.isoformat())
    index = found["daily"]["european_aqi_pm2_5"][0]
    level = yield use(f"The index is {index}. I ask what that means.", "get_air_quality_level", air_quality_index=index)
    yield finish(f"An index of {index} means the air is {level}.", level)


def cleaner_air(task: Task) -> Play:
    today = yield from _today("Yesterday depends on the user's date.")
    day = today - timedelta(1)
    values: dict[str, int] = {}
    for city in task.parameters["cities"]:
        known = f"The index of {', '.join(values)} is {', '.join(map(str, values.values()))}."
        point = yield from _find(city, known if values else f"Yesterday was {day}.")
        found = yield use(
            f"I look up the air quality index of {city} on {day}.",
            "get_historical_air_quality_index",
            **point,
            **_days(day),
        )
        values[city] = found["daily"]["european_aqi_pm2_5"][0]
    best = min(values, key=lambda city: values[city])
    listed = " and ".join(f"{value} in {city}" for city, value in values.items())
    yield finish(f"The index was {listed}; lower is cleaner, so it is {best}.", best)


def weekend_range(task: Task) -> Play:
    city, point = yield from _here("The question is about the user's city.")
    today = yield from _today("The coming weekend depends on today.")
    saturday = today + timedelta((5 - today.weekday()) % 7 or 7)
    thought = f"Today is {today}, {today:%A}; the coming weekend begins on {saturday}. I ask for its forecast."
    found = yield use(thought, "get_temp_forecast", **point, **_days(saturday, saturday + timedelta(1)))
    low, high = min(found["daily"][VARIABLE["lowest"]]), max(found["daily"][VARIABLE["highest"]])
    yield finish(f"In {city} the two days range from {low} to {high} °C.", [low, high])


def rainiest_day(task: Task) -> Play:
    city = task.parameters["city"]
    today = yield from _today("The next week begins tomorrow.")
    point = yield from _find(city, f"Today is {today}.")
    end = today + timedelta(7)
    thought = f"I ask for the rain in {city} from {today + timedelta(1)} to {end}."
    found = yield use(thought, "get_rain_forecast", **point, **_days(today + timedelta(1), end))
    rain = found["daily"]["rain_sum"]
    day = found["daily"]["time"][rain.index(max(rain))]
    yield finish(f"Most rain, {max(rain)} mm, falls on {day}.", day)


def umbrella(task: Task) -> Play:
    city = task.parameters["city"]
    today = yield from _today("Tomorrow depends on the user's date.")
    point = yield from _find(city, f"Today is {today}.")
    day = today + timedelta(1)
    thought = f"First I ask whether it rains in {city} on {day}."
    rain = (yield use(thought, "get_rain_forecast", **point, **_days(day)))["daily"]["rain_sum"][0]
    if rain > 0:
        yield finish(f"It rains, so I give the amount, {rain} mm.", rain)
        return
    thought = "It stays dry, so the question asks for the highest temperature instead."
    found = yield use(thought, "get_temp_forecast", **point, **_days(day))
    value = found["daily"][VARIABLE["highest"]][0]
    yield finish(f"The highest temperature tomorrow is {value} °C.", value)
