"""PDDL: reach a goal by the actions of a planning domain, told in words."""
