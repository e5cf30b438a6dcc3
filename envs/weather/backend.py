"""Weather's backends: the rules that both share, and the offline backend.

The rules are AgentBoard's: historical dates lie before the user's day, forecasts after it, a span is at most 30 days.
The live backend is in `live.py`.
"""

from __future__ import annotations

import math
import re
from abc import ABC, abstractmethod
from collections.abc import Callable
from datetime import date
from typing import Any, Literal

from atlas_ray.errors import DataError
from envs.tools.backend import Refused
from envs.tools.grammar import shorten
from envs.tools.tasks import Task
from envs.weather import climate
from envs.weather.places import gazetteer

Kind = Literal["temp", "rain", "snow"]
When = Literal["past", "today", "coming"]

UNITS: dict[Kind, dict[str, str]] = {
    "temp": {"temperature_2m_max": "°C", "temperature_2m_min": "°C", "temperature_2m_mean": "°C"},
    "rain": {"rain_sum": "mm"},
    "snow": {"snowfall_sum": "cm"},
}
"""Open-Meteo's daily variables for each kind, with their units."""
AIR = "european_aqi_pm2_5"
MAX_SPAN_DAYS = 30
_LEVELS = ((20, "good"), (40, "fair"), (60, "moderate"), (80, "poor"), (100, "very poor"))
_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")


class WeatherBackend(ABC):
    """The actions; a subclass gives the figures. No action changes anything."""

    def __init__(self) -> None:
        self._today = date.min
        self._city = ""

    def open(self, task: Task) -> None:
        """See `Backend`."""
        self._today, self._city = setting_of(task)

    def save(self) -> Any:
        """See `Backend`."""
        return None

    def load(self, task: Task, saved: Any) -> None:
        """See `Backend`."""
        self.open(task)

    # -- what a subclass gives ------------------------------------------------------------------------------------

    @abstractmethod
    def _daily(self, kind: Kind, latitude: float, longitude: float, start: date, end: date) -> dict[str, Any]:
        """Daily values in Open-Meteo's shape: latitude, longitude, daily_units, daily."""

    @abstractmethod
    def _air(self, latitude: float, longitude: float, start: date, end: date) -> dict[str, Any]:
        """The noon values of `AIR` in the same shape."""

    @abstractmethod
    def get_latitude_longitude(self, name: str) -> dict[str, Any]:
        """At most three places: results with name, latitude, longitude, country_code."""

    @abstractmethod
    def get_elevation(self, latitude: float, longitude: float) -> dict[str, Any]:
        """The elevation in metres, as a list of one."""

    # -- the actions ----------------------------------------------------------------------------------------------

    def get_user_current_date(self) -> str:
        return self._today.isoformat()

    def get_user_current_location(self) -> str:
        return self._city

    def get_historical_temp(self, latitude: float, longitude: float, start_date: str, end_date: str) -> dict[str, Any]:
        return self._daily("temp", latitude, longitude, *self._span("past", start_date, end_date))

    def get_historical_rain(self, latitude: float, longitude: float, start_date: str, end_date: str) -> dict[str, Any]:
        return self._daily("rain", latitude, longitude, *self._span("past", start_date, end_date))

    def get_historical_snow(self, latitude: float, longitude: float, start_date: str, end_date: str) -> dict[str, Any]:
        return self._daily("snow", latitude, longitude, *self._span("past", start_date, end_date))

    def get_temp_forecast(self, latitude: float, longitude: float, start_date: str, end_date: str) -> dict[str, Any]:
        return self._daily("temp", latitude, longitude, *self._span("coming", start_date, end_date))

    def get_rain_forecast(self, latitude: float, longitude: float, start_date: str, end_date: str) -> dict[str, Any]:
        return self._daily("rain", latitude, longitude, *self._span("coming", start_date, end_date))

    def get_snow_forecast(self, latitude: float, longitude: float, start_date: str, end_date: str) -> dict[str, Any]:
        return self._daily("snow", latitude, longitude, *self._span("coming", start_date, end_date))

    def get_current_temp(self, latitude: float, longitude: float, current_date: str) -> dict[str, Any]:
        return self._daily("temp", latitude, longitude, *self._span("today", current_date, current_date))

    def get_current_rain(self, latitude: float, longitude: float, current_date: str) -> dict[str, Any]:
        return self._daily("rain", latitude, longitude, *self._span("today", current_date, current_date))

    def get_current_snow(self, latitude: float, longitude: float, current_date: str) -> dict[str, Any]:
        return self._daily("snow", latitude, longitude, *self._span("today", current_date, current_date))

    def get_historical_air_quality_index(
        self, latitude: float, longitude: float, start_date: str, end_date: str
    ) -> dict[str, Any]:
        return self._air(latitude, longitude, *self._span("past", start_date, end_date))

    def get_current_air_quality_index(self, latitude: float, longitude: float, current_date: str) -> dict[str, Any]:
        return self._air(latitude, longitude, *self._span("today", current_date, current_date))

    def get_air_quality_level(self, air_quality_index: float) -> str:
        return next((level for most, level in _LEVELS if air_quality_index <= most), "extremely poor")

    def get_distance(self, latitude1: float, longitude1: float, latitude2: float, longitude2: float) -> float:
        return distance_km(latitude1, longitude1, latitude2, longitude2)

    def _span(self, when: When, start: str, end: str) -> tuple[date, date]:
        """The two days, after the checks that the action asks for.

        As upstream, a "current" action takes any day; it is today's by its name only.
        """
        first, last = _day("start_date", start), _day("end_date", end)
        for name, day in (("start_date", first), ("end_date", last)):
            if when == "past" and day >= self._today:
                raise Refused(f"Error: {name} should be earlier than current_date")
            if when == "coming" and day <= self._today:
                raise Refused(f"Error: {name} should be later than current_date")
        if last < first:
            raise Refused("Error: end_date should not be earlier than start_date")
        if (last - first).days > MAX_SPAN_DAYS:
            raise Refused(
                f"Error: one query covers at most {MAX_SPAN_DAYS} days between start_date and end_date; split yours "
                "into several queries"
            )
        return first, last


class OfflineWeather(WeatherBackend):
    """Figures from `climate.py`, cities from `places.py`."""

    def _daily(self, kind: Kind, latitude: float, longitude: float, start: date, end: date) -> dict[str, Any]:
        if kind == "temp":
            return _series(
                latitude, longitude, start, end, UNITS[kind], lambda day: (day.high, day.low, day.mean), date.isoformat
            )
        if kind == "rain":
            return _series(latitude, longitude, start, end, UNITS[kind], lambda day: (day.rain,), date.isoformat)
        return _series(latitude, longitude, start, end, UNITS[kind], lambda day: (day.snow,), date.isoformat)

    def _air(self, latitude: float, longitude: float, start: date, end: date) -> dict[str, Any]:
        return _series(
            latitude, longitude, start, end, {AIR: "EAQI"}, lambda day: (day.air,), lambda day: f"{day}T12:00"
        )

    def get_latitude_longitude(self, name: str) -> dict[str, Any]:
        found = gazetteer().find(name)
        if not found:
            raise Refused(f"Error: no place is named {shorten(name)!r}")
        return {
            "results": [
                {"name": p.name, "latitude": p.latitude, "longitude": p.longitude, "country_code": p.country_code}
                for p in found
            ]
        }

    def get_elevation(self, latitude: float, longitude: float) -> dict[str, Any]:
        return {"elevation": [climate.elevation(latitude, longitude)]}


def _series(
    latitude: float,
    longitude: float,
    start: date,
    end: date,
    units: dict[str, str],
    values: Callable[[climate.Day], tuple[float, ...]],
    stamp: Callable[[date], str],
) -> dict[str, Any]:
    north, east = climate.grid(latitude, longitude)
    ordinals = range(start.toordinal(), end.toordinal() + 1)
    columns = zip(*(values(climate.day(north, east, ordinal)) for ordinal in ordinals), strict=True)
    return {
        "latitude": north,
        "longitude": east,
        "daily_units": {"time": "iso8601", **units},
        "daily": {
            "time": [stamp(date.fromordinal(ordinal)) for ordinal in ordinals],
            **{name: list(column) for name, column in zip(units, columns, strict=True)},
        },
    }


def setting_of(task: Task) -> tuple[date, str]:
    """The day and city that a task begins with.

    Raises:
        DataError: A task from a file has none.
    """
    day, city = task.setting.get("current_date"), task.setting.get("current_location")
    if not (isinstance(day, str) and _DATE.fullmatch(day) and isinstance(city, str) and city):
        raise DataError(
            f"{task.origin}: field additional_info.init_config needs current_date (YYYY-MM-DD) and current_location"
        )
    return date.fromisoformat(day), city


def _day(name: str, text: str) -> date:
    try:
        if _DATE.fullmatch(text):
            return date.fromisoformat(text)
    except ValueError:
        pass
    raise Refused(f"Error: {name} is {shorten(text)!r}; write a day of the calendar as YYYY-MM-DD")


def distance_km(latitude1: float, longitude1: float, latitude2: float, longitude2: float) -> float:
    """The geodesic on the WGS-84 ellipsoid by Vincenty's inverse formula (1975); the sphere's where it diverges."""
    major, flattening = 6378.137, 1 / 298.257223563
    minor = major * (1 - flattening)
    if (latitude1, longitude1) == (latitude2, longitude2):
        return 0.0
    u1 = math.atan((1 - flattening) * math.tan(math.radians(latitude1)))
    u2 = math.atan((1 - flattening) * math.tan(math.radians(latitude2)))
    turn = math.radians(longitude2 - longitude1)
    sin1, cos1, sin2, cos2 = math.sin(u1), math.cos(u1), math.sin(u2), math.cos(u2)
    lam = turn
    for _ in range(200):
        sin_lam, cos_lam = math.sin(lam), math.cos(lam)
        sin_sigma = math.hypot(cos2 * sin_lam, cos1 * sin2 - sin1 * cos2 * cos_lam)
        if sin_sigma == 0:
            return 0.0
        cos_sigma = sin1 * sin2 + cos1 * cos2 * cos_lam
        sigma = math.atan2(sin_sigma, cos_sigma)
        sin_alpha = cos1 * cos2 * sin_lam / sin_sigma
        cos_alpha2 = 1 - sin_alpha**2
        middle = cos_sigma - 2 * sin1 * sin2 / cos_alpha2 if cos_alpha2 > 1e-12 else 0.0
        c = flattening / 16 * cos_alpha2 * (4 + flattening * (4 - 3 * cos_alpha2))
        previous = lam
        bend = sigma + c * sin_sigma * (middle + c * cos_sigma * (2 * middle**2 - 1))
        lam = turn + (1 - c) * flattening * sin_alpha * bend
        if abs(lam - previous) < 1e-12:
            break
    else:
        return 6371.0088 * sigma
    u_squared = cos_alpha2 * (major**2 - minor**2) / minor**2
    a = 1 + u_squared / 16384 * (4096 + u_squared * (u_squared * (320 - 175 * u_squared) - 768))
    b = u_squared / 1024 * (256 + u_squared * (u_squared * (74 - 47 * u_squared) - 128))
    inner = cos_sigma * (2 * middle**2 - 1) - b / 6 * middle * (4 * sin_sigma**2 - 3) * (4 * middle**2 - 3)
    return minor * a * (sigma - b * sin_sigma * (middle + b / 4 * inner))
