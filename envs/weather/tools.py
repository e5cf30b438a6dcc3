"""The actions of Weather, with AgentGym's names and arguments and our own descriptions."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from envs.tools.toolbox import Parameter, Tool, Toolbox

_LATITUDE = Parameter(Annotated[float, Field(ge=-90, le=90)], "number", "Degrees north.")
_LONGITUDE = Parameter(Annotated[float, Field(ge=-180, le=180)], "number", "Degrees east.")
_POINT = {"latitude": _LATITUDE, "longitude": _LONGITUDE}
_SPAN = {
    **_POINT,
    "start_date": Parameter(str, "string", "The first day (YYYY-MM-DD)."),
    "end_date": Parameter(str, "string", "The last day (YYYY-MM-DD)."),
}
_DAY = {**_POINT, "current_date": Parameter(str, "string", "Today's date (YYYY-MM-DD).")}
_TEMPERATURE = "Highest, lowest and mean temperature of each day in °C."
_RAIN = "Rain of each day in mm."
_SNOW = "Fresh snow of each day in cm."
_AIR = "The European air quality index for PM2.5 at noon of each day."

TOOLBOX = Toolbox(
    [
        Tool("get_user_current_date", "Tell which day it is for the user.", returns="The date as 'YYYY-MM-DD'."),
        Tool("get_user_current_location", "Tell in which city the user is.", returns="The name of the city."),
        Tool("get_historical_temp", "Look up temperatures of past days at a place.", _SPAN, _TEMPERATURE),
        Tool("get_historical_rain", "Look up rainfall of past days at a place.", _SPAN, _RAIN),
        Tool("get_historical_snow", "Look up snowfall of past days at a place.", _SPAN, _SNOW),
        Tool("get_snow_forecast", "Forecast the snowfall of coming days at a place.", _SPAN, _SNOW),
        Tool("get_current_snow", "Look up today's snowfall at a place.", _DAY, _SNOW),
        Tool("get_current_temp", "Look up today's temperatures at a place.", _DAY, _TEMPERATURE),
        Tool(
            "get_latitude_longitude",
            "Find a place by name; the first of at most three results is the best.",
            {"name": Parameter(str, "string", "The name of a place, such as a city.")},
            "Name, latitude, longitude and country code of each result.",
        ),
        Tool("get_elevation", "Look up how high a place lies.", _POINT, "The elevation in metres."),
        Tool("get_temp_forecast", "Forecast the temperatures of coming days at a place.", _SPAN, _TEMPERATURE),
        Tool("get_rain_forecast", "Forecast the rainfall of coming days at a place.", _SPAN, _RAIN),
        Tool("get_current_rain", "Look up today's rainfall at a place.", _DAY, _RAIN),
        Tool(
            "get_distance",
            "Work out how far two places are apart.",
            {"latitude1": _LATITUDE, "longitude1": _LONGITUDE, "latitude2": _LATITUDE, "longitude2": _LONGITUDE},
            "The distance in km.",
        ),
        Tool("get_historical_air_quality_index", "Look up the air quality of past days at a place.", _SPAN, _AIR),
        Tool("get_current_air_quality_index", "Look up today's air quality at a place.", _DAY, _AIR),
        Tool(
            "get_air_quality_level",
            "Say in words what an air quality index means.",
            {"air_quality_index": Parameter(float, "number", "The index.")},
            "One of 'good', 'fair', 'moderate', 'poor', 'very poor' and 'extremely poor'.",
        ),
    ]
)

HINT = (
    "A place is given by latitude and longitude; take them from get_latitude_longitude, never from memory. Past days "
    "are before the user's date, coming days after it; one call covers at most 30 days."
)
EXAMPLE = """\
Goal: How warm did it get yesterday? Answer with a number.
Thought: I need to know where the user is before I can look up the weather.

Action: get_user_current_location with Action Input: {}
Observation: Lisbon
Thought: The user is in Lisbon. Now I need its coordinates.

Action: get_latitude_longitude with Action Input: {"name": "Lisbon"}
Observation: {'results': [{'name': 'Lisbon', 'latitude': 38.72509, 'longitude': -9.1498, 'country_code': 'PT'}]}
Thought: To know which day yesterday was, I need today's date.

Action: get_user_current_date with Action Input: {}
Observation: 2019-08-02
Thought: Yesterday was 2019-08-01, a past day, so I look up the historical temperature.

Action: get_historical_temp with Action Input: {"latitude": 38.72509, "longitude": -9.1498, \
"start_date": "2019-08-01", "end_date": "2019-08-01"}
Observation: {'latitude': 38.7, 'longitude': -9.1, 'daily_units': {'time': 'iso8601', 'temperature_2m_max': '°C', \
'temperature_2m_min': '°C', 'temperature_2m_mean': '°C'}, 'daily': {'time': ['2019-08-01'], \
'temperature_2m_max': [29.4], 'temperature_2m_min': [18.1], 'temperature_2m_mean': [23.2]}}
Thought: The highest temperature was 29.4.

Action: finish with Action Input: {"answer": 29.4}
Observation: 29.4
"""
