"""Academia's backend: carries out the actions on a citation network.

Failures are explained in upstream's exact words. There is no live backend: upstream, too, reads a data set from disk.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from envs.academia.network import Network
from envs.tools.backend import Refused
from envs.tools.grammar import shorten
from envs.tools.tasks import Task


class AcademiaBackend:
    """An episode on a shared network; what changes is only which of its two graphs are loaded.

    Args:
        network: Gives the network, when it is first asked.
    """

    def __init__(self, network: Callable[[], Network]) -> None:
        self._network = network
        self._loaded: frozenset[str] = frozenset()

    def open(self, task: Task) -> None:
        """See `Backend`."""
        self._loaded = frozenset()

    def save(self) -> frozenset[str]:
        """See `Backend`."""
        return self._loaded

    def load(self, task: Task, saved: frozenset[str]) -> None:
        """See `Backend`."""
        self._loaded = saved

    def loadPaperNet(self) -> str:
        self._loaded |= {"PaperNet"}
        return "PaperNet is loaded."

    def loadAuthorNet(self) -> str:
        self._loaded |= {"AuthorNet"}
        return "AuthorNet is loaded."

    def neighbourCheck(self, graph: str, node: str) -> list[str]:
        return list(self._node(graph, node).neighbors(node))

    def paperNodeCheck(self, node: str) -> dict[str, Any]:
        return dict(self._node("PaperNet", node).nodes[node])

    def authorNodeCheck(self, node: str) -> dict[str, Any]:
        return dict(self._node("AuthorNet", node).nodes[node])

    def authorEdgeCheck(self, node1: str, node2: str) -> dict[str, Any]:
        papers = list(self._edge("AuthorNet", node1, node2)["papers"])
        return {"weight": len(papers), "papers": papers}

    def paperEdgeCheck(self, node1: str, node2: str) -> dict[str, Any]:
        return dict(self._edge("PaperNet", node1, node2))

    def _node(self, name: str, node: str) -> Any:
        """The graph, in which the node is."""
        if name not in self._loaded:
            raise Refused(f"Please load the {name} first.")
        graph: Any = self._network().papers if name == "PaperNet" else self._network().authors
        if node not in graph:
            raise Refused(f"There is no node named {shorten(node, 200)} in the {name}.")
        return graph

    def _edge(self, name: str, one: str, other: str) -> dict[str, Any]:
        self._node(name, one)
        graph = self._node(name, other)
        if not graph.has_edge(one, other):
            raise Refused(f"There is no edge between {shorten(one, 200)} and {shorten(other, 200)}.")
        edge: dict[str, Any] = graph.edges[one, other]
        return edge
