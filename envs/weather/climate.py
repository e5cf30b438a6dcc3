"""The offline weather: a climate that is a pure function of place and day.

Temperature falls with latitude and height and swings with the season; days differ by smooth noise. All values derive
from integers hashed with the place's grid cell, so they are the same in any process. The weather is plausible, not
real: only the latitude is the place's own.
"""

from __future__ import annotations

import math
from datetime import date
from functools import lru_cache
from typing import NamedTuple

_MASK = (1 << 64) - 1


class Day(NamedTuple):
    """The weather of one day at one place."""

    high: float
    """°C, one decimal, as `low` and `mean`."""
    low: float
    mean: float
    rain: float
    """mm, one decimal."""
    snow: float
    """cm of fresh snow, two decimals."""
    air: int
    """European air quality index of PM2.5 at noon."""


class Cell(NamedTuple):
    """What is constant at a place."""

    latitude: float
    longitude: float
    elevation: float
    annual_mean: float
    swing: float
    """Half the difference between the warmest and the coldest season, °C; negative south of the equator."""
    daily_range: float
    wetness: float
    """The chance of a wet day."""
    smog: float
    salt: int


def grid(latitude: float, longitude: float) -> tuple[float, float]:
    """The middle of the place's grid cell, a tenth of a degree wide."""
    return round(latitude, 1) + 0.0, round(longitude, 1) + 0.0


@lru_cache(maxsize=4096)
def cell(latitude: float, longitude: float) -> Cell:
    """The climate of a grid cell (a value of `grid`)."""
    salt = _mix(round(latitude * 10) * 10_007 + round(longitude * 10))
    height = elevation(latitude, longitude)
    inland = _unit(salt, 1)
    north = abs(latitude)
    swing = north * (0.15 + 0.22 * inland)
    return Cell(
        latitude=latitude,
        longitude=longitude,
        elevation=height,
        annual_mean=27.5 - 0.0085 * north**2 - 0.0065 * height + 3 * (_unit(salt, 2) - 0.5),
        swing=swing if latitude >= 0 else -swing,
        daily_range=5 + 8 * _unit(salt, 3),
        wetness=0.12 + 0.35 * _unit(salt, 4),
        smog=12 + 45 * _unit(salt, 5) ** 2,
        salt=salt,
    )


@lru_cache(maxsize=65_536)
def day(latitude: float, longitude: float, ordinal: int) -> Day:
    """The weather of a grid cell on a day, given as `date.toordinal()`."""
    here = cell(latitude, longitude)
    warmest = 200  # mid July
    of_year = date.fromordinal(ordinal).timetuple().tm_yday
    season = math.cos(2 * math.pi * (of_year - warmest) / 365.25)
    front = _smooth(here.salt, 11, ordinal, 5) * 7 + _smooth(here.salt, 12, ordinal, 2) * 3
    middle = here.annual_mean + here.swing * season + front
    noise = _mix(here.salt ^ ordinal * 0x9E3779B97F4A7C15)
    wet = _unit(noise, 1) < here.wetness * (1 + 0.5 * _smooth(here.salt, 13, ordinal, 7))
    spread = here.daily_range * (0.55 if wet else 1.0) * (0.8 + 0.4 * _unit(noise, 2))
    water = round(-6 * math.log(1 - 0.98 * _unit(noise, 3)) + 0.1, 1) if wet else 0.0
    frozen = min(max((1.5 - middle) / 2, 0.0), 1.0)
    cold = max(0.0, -here.swing * season if latitude < 0 else here.swing * -season) / 12
    still = 0.6 + 0.8 * _unit(noise, 4) + 0.4 * cold - (0.3 if wet else 0.0)
    return Day(
        high=round(middle + spread / 2, 1) + 0.0,
        low=round(middle - spread / 2, 1) + 0.0,
        mean=round(middle + spread * 0.1 * (_unit(noise, 5) - 0.5), 1) + 0.0,
        rain=round(water * (1 - frozen), 1),
        snow=round(water * frozen * 0.7, 2),
        air=max(2, round(here.smog * still)),
    )


@lru_cache(maxsize=16_384)
def elevation(latitude: float, longitude: float) -> float:
    """Metres above the sea, from three octaves of smooth noise; the place itself, not its grid cell, decides."""
    height = 0.0
    for octave, (size, share) in enumerate(((12.0, 0.6), (3.0, 0.3), (0.5, 0.1))):
        height += share * _plane(latitude / size, longitude / size, 31 + octave)
    return float(round(2600 * max(0.0, height - 0.25) ** 1.5 + 4))


def _mix(value: int) -> int:
    """A 64-bit hash of an integer (the finaliser of splitmix64)."""
    value = (value + 0x9E3779B97F4A7C15) & _MASK
    value = ((value ^ (value >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    value = ((value ^ (value >> 27)) * 0x94D049BB133111EB) & _MASK
    return value ^ (value >> 31)


def _unit(salt: int, stream: int) -> float:
    """A number in [0, 1)."""
    return _mix(salt + stream * 0x632BE59BD9B4E019) / 2**64


def _smooth(salt: int, stream: int, ordinal: int, span: int) -> float:
    """Noise in [-1, 1] over days that wanders from one knot to the next, `span` days apart."""
    knot, step = divmod(ordinal, span)
    here, there = _unit(salt ^ knot, stream), _unit(salt ^ (knot + 1), stream)
    share = step / span
    share = share * share * (3 - 2 * share)
    return 2 * (here + (there - here) * share) - 1


def _plane(x: float, y: float, stream: int) -> float:
    """Smooth noise in [0, 1) over the plane."""
    left, below = math.floor(x), math.floor(y)
    u, v = x - left, y - below
    u, v = u * u * (3 - 2 * u), v * v * (3 - 2 * v)

    def corner(i: int, j: int) -> float:
        return _unit((left + i) * 65_537 + below + j, stream)

    south = corner(0, 0) + (corner(0, 1) - corner(0, 0)) * v
    north = corner(1, 0) + (corner(1, 1) - corner(1, 0)) * v
    return south + (north - south) * u
