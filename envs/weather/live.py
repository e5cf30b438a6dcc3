"""Weather's live backend: Open-Meteo over HTTP, which needs no key.

As upstream, all days are read from the archive, forecasts too, because the tasks' days are long past.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date
from typing import Any

from envs.tools.backend import Refused
from envs.tools.grammar import shorten
from envs.tools.live import Service
from envs.weather.backend import AIR, UNITS, Kind, WeatherBackend

URLS = {
    "archive": "https://archive-api.open-meteo.com/v1/archive",
    "geocoding": "https://geocoding-api.open-meteo.com/v1/search",
    "air": "https://air-quality-api.open-meteo.com/v1/air-quality",
    "elevation": "https://api.open-meteo.com/v1/elevation",
}
_NOON = 12
_SHOWN = ("name", "latitude", "longitude", "country_code")


class LiveWeather(WeatherBackend):
    """Asks Open-Meteo.

    Args:
        urls: Of the four endpoints, where they are not Open-Meteo's own.
        service: How to ask.
    """

    def __init__(self, urls: Mapping[str, str] = URLS, service: Service | None = None) -> None:
        super().__init__()
        self._urls = urls
        self._service = service or Service("Open-Meteo")

    def _daily(self, kind: Kind, latitude: float, longitude: float, start: date, end: date) -> dict[str, Any]:
        variables = ",".join(UNITS[kind])
        answer = self._get("archive", _span(latitude, longitude, start, end) | {"daily": variables})
        return self._pick(answer, "latitude", "longitude", "daily_units", "daily")

    def _air(self, latitude: float, longitude: float, start: date, end: date) -> dict[str, Any]:
        answer = self._get("air", _span(latitude, longitude, start, end) | {"hourly": AIR})
        hours = self._pick(answer, "latitude", "longitude", "hourly_units", "hourly")
        series = self._pick(hours["hourly"], "time", AIR)
        if not all(isinstance(values, list) for values in series.values()):
            raise self._service.malformed("hourly values")
        return {
            "latitude": hours["latitude"],
            "longitude": hours["longitude"],
            "daily_units": hours["hourly_units"],
            "daily": {name: values[_NOON::24] for name, values in series.items()},
        }

    def get_latitude_longitude(self, name: str) -> dict[str, Any]:
        answer = self._get("geocoding", {"name": name, "count": 3, "language": "en", "format": "json"})
        found = answer.get("results")
        if not found:
            raise Refused(f"Error: no place is named {shorten(name)!r}")
        if not isinstance(found, list) or not all(isinstance(place, dict) for place in found):
            raise self._service.malformed("a list of results")
        return {"results": [{key: place[key] for key in _SHOWN if key in place} for place in found]}

    def get_elevation(self, latitude: float, longitude: float) -> dict[str, Any]:
        return self._pick(self._get("elevation", {"latitude": latitude, "longitude": longitude}), "elevation")

    def _get(self, endpoint: str, parameters: dict[str, Any]) -> dict[str, Any]:
        answer = self._service.get(self._urls[endpoint], parameters)
        if not isinstance(answer, dict):
            raise self._service.malformed("an object")
        return answer

    def _pick(self, answer: Any, *names: str) -> dict[str, Any]:
        """The named fields: scalars, objects, or lists; a fault where one is missing."""
        for name in names:
            if not isinstance(answer, dict) or name not in answer:
                raise self._service.malformed(name)
        return {name: answer[name] for name in names}


def _span(latitude: float, longitude: float, start: date, end: date) -> dict[str, Any]:
    return {
        "latitude": latitude,
        "longitude": longitude,
        "start_date": start.isoformat(),
        "end_date": end.isoformat(),
        "timezone": "GMT",
    }
