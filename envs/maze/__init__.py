"""Maze: walk to the goal by text."""
