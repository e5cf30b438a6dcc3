"""The environments of atlas-ray, one folder each: rules (`env.py`), tasks (`tasks.py`), expert (`expert.py`).

`import envs` registers all of them with Gymnasium as `atlas/<name>-v0`.
"""

from atlas_ray.environments.registry import register

for _name, _class in {
    "academia": "AcademiaEnv",
    "alfworld": "ALFWorldEnv",
    "babyai": "BabyAIEnv",
    "jericho": "JerichoEnv",
    "maze": "MazeEnv",
    "movie": "MovieEnv",
    "pddl": "PDDLEnv",
    "scienceworld": "ScienceWorldEnv",
    "sheet": "SheetEnv",
    "textcraft": "TextCraftEnv",
    "todo": "TodoEnv",
    "weather": "WeatherEnv",
    "webshop": "WebShopEnv",
    "wordle": "WordleEnv",
}.items():
    register(_name, f"envs.{_name}.env:{_class}")
