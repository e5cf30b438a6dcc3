"""Weather: the climate, the rules of dates, upstream's files, and the live service's documented answers."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import date, timedelta
from itertools import pairwise
from typing import Any

import pytest

from atlas_ray.environments import make
from atlas_ray.errors import ConfigError, DataError, EnvironmentError
from atlas_ray.rollout.episode import play
from atlas_ray.rollout.policy import PolicyTurn
from atlas_ray.rollout.spec import EpisodeSpec
from envs.tools import live
from envs.tools.grammar import format_call
from envs.weather import climate
from envs.weather.backend import distance_km
from envs.weather.env import WeatherEnv
from envs.weather.live import URLS, LiveWeather
from envs.weather.places import gazetteer
from envs.weather.tasks import tasks
from tests.envs.tools.server import Reply, serve
from tests.reference import reference


def _env(**options: Any) -> WeatherEnv:
    env = WeatherEnv(**options)
    env.reset(options={"split": "test" if "data" in options else "train"})
    return env


def _call(env: WeatherEnv, name: str, /, **arguments: Any) -> str:
    observation = env.step(format_call(name, arguments))[0]
    return observation.removeprefix("Observation: ").removesuffix("\nGive me one action.")


OSLO = {"latitude": 59.91, "longitude": 10.74}


def test_answers_have_open_meteos_shape() -> None:
    env = _env(max_rounds=100)
    today = date.fromisoformat(_call(env, "get_user_current_date"))
    past = {"start_date": str(today - timedelta(2)), "end_date": str(today - timedelta(1))}
    days = [climate.day(59.9, 10.7, (today - timedelta(n)).toordinal()) for n in (2, 1)]
    assert _call(env, "get_historical_temp", **OSLO, **past) == str(
        {
            "latitude": 59.9,
            "longitude": 10.7,
            "daily_units": {
                "time": "iso8601",
                "temperature_2m_max": "°C",
                "temperature_2m_min": "°C",
                "temperature_2m_mean": "°C",
            },
            "daily": {
                "time": list(past.values()),
                "temperature_2m_max": [day.high for day in days],
                "temperature_2m_min": [day.low for day in days],
                "temperature_2m_mean": [day.mean for day in days],
            },
        }
    )
    assert f"'rain_sum': {[day.rain for day in days]}" in _call(env, "get_historical_rain", **OSLO, **past)
    assert f"'snowfall_sum': {[day.snow for day in days]}" in _call(env, "get_historical_snow", **OSLO, **past)
    air = _call(env, "get_historical_air_quality_index", **OSLO, **past)
    assert f"'time': ['{past['start_date']}T12:00', '{past['end_date']}T12:00']" in air
    assert f"'european_aqi_pm2_5': {[day.air for day in days]}" in air
    assert _call(env, "get_elevation", **OSLO).startswith("{'elevation': [")
    assert _call(env, "get_latitude_longitude", name="portland").count("'name': 'Portland'") == 3
    assert "New York City" in _call(env, "get_latitude_longitude", name="New York")
    assert _call(env, "get_latitude_longitude", name="Xyzzyville") == "Error: no place is named 'Xyzzyville'"
    levels = [_call(env, "get_air_quality_level", air_quality_index=n) for n in (20, 20.5, 41, 80, 81, 101)]
    assert levels == ["good", "fair", "moderate", "poor", "very poor", "extremely poor"]


def test_dates_keep_upstreams_rules() -> None:
    env = _env(max_rounds=100)
    today = date.fromisoformat(_call(env, "get_user_current_date"))

    def ask(name: str, start: object, end: object) -> str:
        return _call(env, name, **OSLO, start_date=str(start), end_date=str(end))

    assert ask("get_historical_temp", today, today) == "Error: start_date should be earlier than current_date"
    assert ask("get_historical_rain", "2015-01-01", today) == "Error: end_date should be earlier than current_date"
    assert ask("get_snow_forecast", today, today) == "Error: start_date should be later than current_date"
    assert "at most 30 days" in ask("get_historical_temp", "2015-01-01", "2015-02-01")
    assert "should not be earlier than start_date" in ask("get_historical_temp", "2015-01-02", "2015-01-01")
    assert "write a day of the calendar" in ask("get_historical_temp", "2015-02-30", "2015-03-01")
    assert "Input should be less than or equal to 90" in _call(
        env, "get_current_temp", latitude=91, longitude=0, current_date=str(today)
    )
    assert _call(env, "get_current_temp", **OSLO, current_date=str(today)).startswith("{'latitude': 59.9")


def test_the_climate_is_plausible() -> None:
    def mean(latitude: float, longitude: float, month: int) -> float:
        days = [climate.day(latitude, longitude, date(2020, month, 1).toordinal() + i) for i in range(28)]
        assert all(day.low < day.high and day.rain >= 0 and day.snow >= 0 and day.air > 0 for day in days)
        return sum(day.mean for day in days) / len(days)

    for longitude in (-100.0, 10.0, 120.0):
        assert mean(60, longitude, 7) > mean(60, longitude, 1) + 10
        assert mean(-40, longitude, 1) > mean(-40, longitude, 7)
        assert mean(0, longitude, 1) > mean(60, longitude, 1) + 10
    nearby = [climate.elevation(46.0 + i / 100, 8.0) for i in range(50)]
    assert max(abs(a - b) for a, b in pairwise(nearby)) < 100


def test_distances_are_vincentys() -> None:
    flinders, buninyong = (-37.9510334, 144.4248679), (-37.6528211, 143.9264955)
    assert distance_km(*flinders, *buninyong) == pytest.approx(54.972271, abs=1e-4)
    assert distance_km(0, 0, 0.5, 179.7) == pytest.approx(19936, abs=80)  # does not converge: the sphere's
    assert distance_km(5, 5, 5, 5) == 0


def test_every_city_asked_about_is_found_first() -> None:
    cities = gazetteer().well_known()
    assert len(cities) > 200
    assert all(gazetteer().find(city.name)[0] == city for city in cities)
    levels = {task.answer.value for task in tasks().train if task.template == "air_level" and task.answer}
    assert len(levels) >= 3


@reference("tools/weather_sample.jsonl")
def test_upstreams_file_is_scored_by_the_same_rules(path: str) -> None:
    env = WeatherEnv(data=path)
    assert (env.card.n_train, env.card.n_test) == (0, 40)
    assert env.locate("weather_39") == ("test", 39)
    env.reset(options={"task": 39, "split": "test"})
    assert _call(env, "get_user_current_location") == "Tokyo"
    assert env.step('Action: finish with Action Input: {"answer": 6.4}')[4]["success"]
    with pytest.raises(EnvironmentError, match="no expert for .*weather_sample.jsonl, line 40"):
        env.expert()


def test_options_that_make_no_sense_are_refused(tmp_path: Any) -> None:
    with pytest.raises(ConfigError, match="backend 'live' needs data=PATH"):
        make("weather", backend="live")
    with pytest.raises(ConfigError, match="choose 'offline' or 'live'"):
        make("weather", backend="cloud")
    path = tmp_path / "weather.jsonl"
    path.write_text(
        '{"goal": "x", "subgoals": [1], "additional_info": {"tool": "weather", "answer": 1, '
        '"init_config": {"current_date": "today", "current_location": "Rome"}}}'
    )
    with pytest.raises(DataError, match="line 1: field additional_info.init_config needs current_date"):
        make("weather", data=path)


# -- the live backend, against a server that answers as Open-Meteo documents -------------------------------------------


def _open_meteo(path: str, query: dict[str, str], headers: Mapping[str, str]) -> Reply:
    about = {
        "latitude": 59.94,
        "longitude": 10.72,
        "generationtime_ms": 0.2,
        "utc_offset_seconds": 0,
        "timezone": "GMT",
    }
    if path == "/archive":
        if query["start_date"] < "1940-01-01":
            return Reply({"error": True, "reason": "start_date is out of allowed range"}, 400)
        names = query["daily"].split(",")
        days = [query["start_date"], query["end_date"]]
        units = {"time": "iso8601", **dict.fromkeys(names, "°C")}
        return Reply(
            about | {"elevation": 9.0, "daily_units": units, "daily": {"time": days} | {n: [1.5] for n in names}}
        )
    if path == "/air":
        hours = {"time": [f"2023-01-01T{h:02}:00" for h in range(24)], query["hourly"]: list(range(24))}
        return Reply(about | {"hourly_units": {"time": "iso8601", query["hourly"]: "EAQI"}, "hourly": hours})
    if path == "/geocoding":
        city = {"id": 1, "name": "Oslo", "latitude": 59.9, "longitude": 10.7, "country_code": "NO", "admin1_id": 4}
        return Reply({"generationtime_ms": 0.1} | ({"results": [city]} if query["name"] == "Oslo" else {}))
    return Reply({"elevation": [26.0]})


@contextmanager
def _live(tmp_path: Any, answer: Any = _open_meteo) -> Iterator[WeatherEnv]:
    path = tmp_path / "weather.jsonl"
    path.write_text(
        '{"goal": "How high is Oslo?", "subgoals": [26], "additional_info": {"tool": "weather", "answer": 26, '
        '"init_config": {"current_date": "2023-01-02", "current_location": "Oslo"}}}'
    )
    with serve(answer) as (url, _):
        service = live.Service("Open-Meteo", timeout_s=30.0)
        yield _env(backend=LiveWeather({name: f"{url}/{name}" for name in URLS}, service), data=path, max_rounds=100)


def test_the_live_backend_reads_open_meteo(tmp_path: Any) -> None:
    with _live(tmp_path) as env:
        span = {"start_date": "2023-01-01", "end_date": "2023-01-01"}
        assert _call(env, "get_latitude_longitude", name="Oslo") == (
            "{'results': [{'name': 'Oslo', 'latitude': 59.9, 'longitude': 10.7, 'country_code': 'NO'}]}"
        )
        assert _call(env, "get_latitude_longitude", name="Olso") == "Error: no place is named 'Olso'"
        found = _call(env, "get_historical_temp", **OSLO, **span)
        assert found.startswith("{'latitude': 59.94, 'longitude': 10.72, 'daily_units': {'time': 'iso8601', 'temp")
        assert "elevation" not in found
        assert "'daily': {'time': ['2023-01-01T12:00'], 'european_aqi_pm2_5': [12]}" in _call(
            env, "get_historical_air_quality_index", **OSLO, **span
        )
        assert _call(env, "get_current_snow", **OSLO, current_date="2023-01-02").endswith("'snowfall_sum': [1.5]}}")
        span["start_date"] = "1900-01-01"
        assert "at most 30 days" in _call(env, "get_historical_rain", **OSLO, **span)
        old = {"start_date": "1900-01-01", "end_date": "1900-01-02"}
        assert _call(env, "get_historical_rain", **OSLO, **old) == (
            "Error: Open-Meteo answers 400: start_date is out of allowed range"
        )
        assert _call(env, "get_elevation", **OSLO) == "{'elevation': [26.0]}"
        info = env.step('finish with Action Input: {"answer": 26.0}')[4]
        assert (info["success"], info["faults"]) == (True, 0)


@pytest.mark.parametrize(
    ("reply", "said"),
    [
        (Reply("", 500), "answers 500"),
        (Reply("", 429, {"retry-after": "60"}), "answers 429; try again in 60 s"),
        (Reply("<html>"), "no JSON"),
        (Reply([]), "without an object"),
        (Reply({"latitude": 1}), "without longitude"),
        (Reply({"latitude": 1, "longitude": 1, "hourly_units": {}, "hourly": [3]}), "without time"),
        (
            Reply({"latitude": 1, "longitude": 1, "hourly_units": {}, "hourly": {"time": 1, "european_aqi_pm2_5": 2}}),
            "without hourly values",
        ),
    ],
)
def test_live_errors_are_observations_and_counted(
    tmp_path: Any, monkeypatch: pytest.MonkeyPatch, reply: Reply, said: str
) -> None:
    monkeypatch.setattr(live.time, "sleep", lambda seconds: None)
    with _live(tmp_path, lambda *_: reply) as env:
        before = env.snapshot()
        assert said in _call(env, "get_current_air_quality_index", **OSLO, current_date="2023-01-02")
        after = env.snapshot()
        assert after.inner[2] == 1
        assert after.inner[:2] == before.inner[:2]
        _, reward, terminated, _, info = env.step("check_valid_actions with Action Input: {}")
        assert (reward, terminated, info["faults"]) == (0, False, 1)


def test_faults_of_a_live_service_stand_in_the_episode(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    class Asks:
        def reply(self, turns: Any, timeout_s: float) -> PolicyTurn:
            action = {"latitude": 59.9, "longitude": 10.7, "current_date": "2023-01-02"}
            return PolicyTurn(f"Action: get_current_temp with Action Input: {json.dumps(action)}")

    monkeypatch.setattr(live.time, "sleep", lambda seconds: None)
    with _live(tmp_path, lambda *_: Reply("", 500)) as env:
        spec = EpisodeSpec(model="m", model_key="k", env="weather", task=0, split="test", seed=0)
        episode = play(env, lambda *_: Asks(), spec)
    assert (episode.error, episode.success) == (None, False)
    assert episode.faults == episode.rounds == env.card.max_rounds
