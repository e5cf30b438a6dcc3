"""The actions of Academia, with AgentGym's names and arguments and our own descriptions."""

from __future__ import annotations

from typing import Literal

from envs.tools.toolbox import Parameter, Tool, Toolbox

_PAPER = {"node": Parameter(str, "string", "The title of a paper.")}
_AUTHOR = {"node": Parameter(str, "string", "The name of an author.")}


def _pair(what: str) -> dict[str, Parameter]:
    return {
        "node1": Parameter(str, "string", f"One {what}."),
        "node2": Parameter(str, "string", f"The other {what}."),
    }


TOOLBOX = Toolbox(
    [
        Tool("loadPaperNet", "Load PaperNet, whose nodes are papers and whose edges lead to the papers they cite."),
        Tool("loadAuthorNet", "Load AuthorNet, whose nodes are authors and whose edges join those who wrote together."),
        Tool(
            "neighbourCheck",
            "List the neighbours of a node: the papers that a paper cites, or the co-authors of an author.",
            {
                "graph": Parameter(Literal["PaperNet", "AuthorNet"], "string, PaperNet or AuthorNet", "Which network."),
                "node": Parameter(str, "string", "A title or a name."),
            },
            "An array of titles or names.",
        ),
        Tool(
            "paperNodeCheck",
            "Look up a paper in PaperNet.",
            _PAPER,
            "- authors, year, venue, n_citation, keywords, doc_type, abstract: What is known of it.",
        ),
        Tool("authorNodeCheck", "Look up an author in AuthorNet.", _AUTHOR, "- name, org: The name and organization."),
        Tool(
            "authorEdgeCheck",
            "Look up what joins two authors in AuthorNet.",
            _pair("author"),
            "- weight, papers: How many papers they wrote together, and their titles.",
        ),
        Tool(
            "paperEdgeCheck",
            "Look up what joins two papers in PaperNet.",
            {
                "node1": Parameter(str, "string", "The paper that cites."),
                "node2": Parameter(str, "string", "The paper that is cited."),
            },
            "An empty object if the first cites the second.",
        ),
    ]
)

HINT = "A network must be loaded before it can be asked. Titles and names must be written exactly as given."
EXAMPLE = """\
Goal: When was the paper 'Sparse Hashing for Plagiarism Detection' published? Answer with a year.
Thought: The question is about a paper, so I load the network of papers first.

Action: loadPaperNet with Action Input: {}
Observation: PaperNet is loaded.
Thought: The year is among what is known of the paper.

Action: paperNodeCheck with Action Input: {"node": "Sparse Hashing for Plagiarism Detection"}
Observation: {'authors': ['Uma Kessler'], 'year': 2014, 'venue': 'Workshop on Text Reuse', 'n_citation': 3, \
'keywords': ['hashing'], 'doc_type': 'Conference', 'abstract': 'We hash.'}
Thought: It was published in 2014.

Action: finish with Action Input: {"answer": 2014}
Observation: 2014
"""
