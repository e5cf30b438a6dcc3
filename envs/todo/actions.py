"""Todo's table of actions (names, arguments and returns as upstream's) and the text that opens an episode."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from envs.tools.toolbox import Parameter, Tool, Toolbox

_Id = Annotated[str, Field(max_length=64)]
_PROJECT = Parameter(_Id, "string", "The project's id, from get_projects.")
_TASK = Parameter(_Id, "string", "The task's id, from get_tasks.")
_TASK_FIELDS = "id, order, content (its name), is_completed, priority (1 normal to 4 urgent), due_date"

TOOLBOX = Toolbox(
    (
        Tool("get_user_current_date", "Get today's date.", returns="- date (Type: string): As YYYY-MM-DD."),
        Tool("get_user_current_location", "Get the city the user is in.", returns="- city (Type: string)."),
        Tool(
            "get_projects",
            "List all projects.",
            returns="- projects (Type: array): Each with id, order, color, name, is_favorite.",
        ),
        Tool(
            "update_project",
            "Mark a project as a favourite, or no longer.",
            {"project_id": _PROJECT, "is_favorite": Parameter(bool, "string", "'True' or 'False'.")},
            returns="- project (Type: object): The project as it is now.",
            changes=True,
        ),
        Tool(
            "get_tasks",
            "List the open tasks of a project.",
            {"project_id": _PROJECT},
            returns=f"- tasks (Type: array): Each with {_TASK_FIELDS}.",
        ),
        Tool(
            "get_task_description",
            "Read a task's description: its place, tips and the like.",
            {"task_id": _TASK},
            returns="- task (Type: object): With id, content, description.",
        ),
        Tool(
            "get_task_duration",
            "Read how long a task takes.",
            {"task_id": _TASK},
            returns="- task (Type: object): With id, content, duration as 'amount(unit)'.",
        ),
        Tool(
            "complete_task",
            "Mark a task as completed.",
            {"task_id": _TASK},
            returns="- task (Type: object): The completed task.",
            changes=True,
        ),
        Tool(
            "update_task",
            "Give a task another due date.",
            {"task_id": _TASK, "due_date": Parameter(str, "string", "The new date as YYYY-MM-DD.")},
            returns="- task (Type: object): The task as it is now.",
            changes=True,
        ),
        Tool(
            "delete_task",
            "Delete a task.",
            {"task_id": _TASK},
            returns="- task (Type: object): The deleted task.",
            changes=True,
        ),
    )
)

HINT = (
    "You look after the user's to-do list. Tasks belong to projects; actions take ids, so look them up first. "
    "Do exactly what is asked and change nothing else. If the user asks a question, finish with the answer in the "
    "form that is asked for; if the user asks for a change, make it and finish with 'done'."
)
EXAMPLE = """\
Goal: Is "Water the ferns" a task of the Balcony project? Please answer Yes or No.
Thought: I need the id of the Balcony project.
Action: get_projects with Action Input: {}
Observation: [{'id': '4711', 'order': 1, 'color': 'charcoal', 'name': 'Balcony', 'is_favorite': False}]
Thought: Balcony has the id 4711, so I read its tasks.
Action: get_tasks with Action Input: {"project_id": "4711"}
Observation: [{'id': '4718', 'order': 1, 'content': 'Water the ferns', 'is_completed': False, 'priority': 2, \
'due_date': '2024-05-02'}]
Thought: The task is in the list, so the answer is Yes.
Action: finish with Action Input: {"answer": "Yes"}
Observation: Yes"""
