"""The ScienceWorld expert: follows the engine's own solution (its "gold path") and explains each action."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from envs.scienceworld.env import ScienceWorldEnv

_REASONS = (
    ("open door to ", "The way to the {rest} leads through a closed door, so I open it."),
    ("close door to ", "I close the door to the {rest} so that nothing changes behind it."),
    ("go to ", "What I need next is in or beyond the {rest}, so I go there."),
    ("look around", "I should see what is in this room before I act."),
    ("look at ", "I want to know the state of the {rest}."),
    ("look in ", "What I need may be inside the {rest}, so I look."),
    ("examine ", "I want to know the state of the {rest} before I go on."),
    ("open ", "What I need may be in the {rest}, so I open it."),
    ("close ", "The {rest} should be closed for what comes next."),
    ("pick up ", "I will need the {rest}, so I take it with me."),
    ("put down ", "I do not need to carry the {rest} any further."),
    ("read ", "The {rest} may tell me what to do, so I read it."),
    ("activate ", "The {rest} has to be on for this to work."),
    ("deactivate ", "The {rest} has done its work, so I turn it off."),
    ("connect ", "A working circuit needs this connection: {rest}."),
    ("disconnect ", "This connection is no longer needed: {rest}."),
    ("use ", "This instrument tells me what I need to know: {rest}."),
    ("pour ", "It has to be poured over: {rest}."),
    ("dunk ", "It has to be filled: {rest}."),
    ("mix ", "The ingredients are together in {rest}, so I mix them."),
    ("move ", "It has to be at its place for the task: {rest}."),
    ("focus on ", "The task asks me to show which thing it is about, and it is the {rest}."),
    ("eat ", "The task needs me to eat the {rest}."),
    ("flush ", "I flush the {rest} to renew its water."),
    ("wait", "What I have set up needs time, so I wait and watch."),
    ("inventory", "I should know what I carry."),
    ("task", "I should read the task again."),
)


def reason(action: str) -> str:
    """The thought for an action."""
    for prefix, text in _REASONS:
        if action.startswith(prefix):
            return text.format(rest=action[len(prefix) :])
    if action.isdigit():
        return f"Several things answer to that name; number {action} is the one I mean."
    return f"The next thing to do is: {action}."


class ScienceWorldExpert:
    """Plays the gold path from where the episode is on it; after its end it looks around."""

    def __init__(self, env: ScienceWorldEnv) -> None:
        self._env = env

    def next_action(self, observation: str) -> tuple[str, str]:
        """The first gold action that has not been done yet in its turn; see `Expert`."""
        path = self._env.gold_path()
        done = 0
        for action in self._env.actions:
            done += done < len(path) and action == path[done]
        if done == len(path):
            return "I have done all that I know of for this task, so I look at where I am.", "look around"
        thought = reason(path[done])
        if done == 0:
            thought = f"{self._env.description} {thought}"
        return thought, path[done]
