"""Academia: the generated network, upstream's answers and failures, the Citation Network Dataset by path."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from atlas_ray.environments import make
from atlas_ray.errors import ConfigError, DataError
from envs.academia.env import AcademiaEnv
from envs.academia.network import generated, read
from envs.tools.grammar import format_call
from tests.reference import reference


def _call(env: AcademiaEnv, name: str, /, **arguments: Any) -> str:
    observation = env.step(format_call(name, arguments))[0]
    return observation.removeprefix("Observation: ").removesuffix("\nGive me one action.")


def test_the_network_is_large_and_whole() -> None:
    network = generated()
    assert network.papers.number_of_nodes() == 3_200
    assert sum(1 for _, n in network.authors.degree() if n) >= 1_500
    years = {title: paper["year"] for title, paper in network.papers.nodes(data=True)}
    assert all(years[one] >= years[other] for one, other in network.papers.edges)
    for title, paper in network.papers.nodes(data=True):
        assert paper["n_citation"] >= network.papers.in_degree(title)
        assert paper["authors"]
        assert paper["keywords"]
        assert paper["abstract"]
        assert all(name in network.authors for name in paper["authors"])
    for one, other, papers in network.authors.edges(data="papers"):
        assert all({one, other} <= set(network.papers.nodes[title]["authors"]) for title in papers)


def test_actions_answer_as_upstream() -> None:
    env = AcademiaEnv(max_rounds=100)
    env.reset()
    title, paper = next(iter(generated().papers.nodes(data=True)))
    one, other = next(iter(generated().authors.edges))
    assert _call(env, "paperNodeCheck", node=title) == "Please load the PaperNet first."
    assert _call(env, "neighbourCheck", graph="AuthorNet", node=one) == "Please load the AuthorNet first."
    assert env.log == ()
    assert _call(env, "loadPaperNet") == "PaperNet is loaded."
    assert _call(env, "paperNodeCheck", node=title) == str(paper)
    assert list(paper) == ["authors", "year", "venue", "n_citation", "keywords", "doc_type", "abstract"]
    assert _call(env, "authorNodeCheck", node=one) == "Please load the AuthorNet first."
    assert _call(env, "loadAuthorNet") == "AuthorNet is loaded."
    assert _call(env, "authorNodeCheck", node=one) == str(generated().authors.nodes[one])
    assert other in env.backend.neighbourCheck(graph="AuthorNet", node=one)  # type: ignore[attr-defined]
    papers = generated().authors.edges[one, other]["papers"]
    assert _call(env, "authorEdgeCheck", node1=one, node2=other) == str({"weight": len(papers), "papers": papers})
    citing, cited = next(iter(generated().papers.edges))
    assert _call(env, "paperEdgeCheck", node1=citing, node2=cited) == "{}"
    assert _call(env, "paperEdgeCheck", node1=cited, node2=citing) == f"There is no edge between {cited} and {citing}."
    assert _call(env, "paperNodeCheck", node="No Such") == "There is no node named No Such in the PaperNet."
    assert "graph: Input should be 'PaperNet' or 'AuthorNet'" in _call(env, "neighbourCheck", graph="X", node=one)
    before = env.snapshot()
    env.reset()
    assert _call(env, "paperNodeCheck", node=title) == "Please load the PaperNet first."
    env.restore(before)
    assert _call(env, "paperNodeCheck", node=title) == str(paper)


def test_what_an_agent_is_shown_is_a_copy() -> None:
    env = AcademiaEnv()
    env.reset()
    _call(env, "loadAuthorNet")
    one, other = next(iter(generated().authors.edges))
    _call(env, "authorEdgeCheck", node1=one, node2=other)
    env.log[-1].value["papers"].clear()
    assert generated().authors.edges[one, other]["papers"]


@reference("tools/academia.jsonl")
def test_upstreams_file_is_scored_by_the_same_rules(path: str) -> None:
    env = make("academia", data=path)
    assert (env.card.n_train, env.card.n_test) == (0, 20)
    for task, answer in ((0, 2), (0, "2"), (8, ["Chenlin Meng", "Stefano Ermon", "Yang Song_2"]), (9, "yes")):
        env.reset(options={"task": task, "split": "test"})
        assert env.step(format_call("finish", {"answer": answer}))[4]["success"]
    env.reset(options={"task": 8, "split": "test"})
    assert not env.step('finish with Action Input: {"answer": ["Chenlin Meng"]}')[4]["success"]


_V12 = {
    "id": 1091,
    "title": "A Paper",
    "authors": [{"id": 7, "name": "Ann Lee", "org": "Here"}, {"id": 8, "name": "Ann Lee", "org": "There"}],
    "year": 2013,
    "n_citation": 4,
    "doc_type": "Conference",
    "references": [1092, 5555],
    "venue": {"raw": "A Venue", "id": 3},
    "fos": [{"name": "Graphs", "w": 0.4}],
    "indexed_abstract": {"IndexLength": 3, "InvertedIndex": {"We": [0, 2], "think": [1]}},
}
_V10 = {"id": "1092", "title": "A Paper", "authors": ["Bo Ek"], "year": 2001, "abstract": "Old.", "venue": "Other"}


@pytest.mark.parametrize("form", ["lines", "array", "array in lines"])
def test_the_citation_network_dataset_loads(tmp_path: Path, form: str) -> None:
    path = tmp_path / "dblp.json"
    rows = [json.dumps(_V12), json.dumps(_V10)]
    text = {
        "lines": "\n".join(rows),
        "array": f"[{rows[0]},{rows[1]}]",
        "array in lines": f"[\n{rows[0]}\n,{rows[1]}\n]",
    }
    path.write_text(text[form])
    network = read(str(path))
    assert list(network.papers) == ["A Paper", "A Paper_2"]
    assert network.papers.nodes["A Paper"] == {
        "authors": ["Ann Lee", "Ann Lee_2"], "year": 2013, "venue": "A Venue", "n_citation": 4, "keywords": ["Graphs"],
        "doc_type": "Conference", "abstract": "We think We",
    }  # fmt: skip
    assert list(network.papers.edges) == [("A Paper", "A Paper_2")]
    assert network.authors.nodes["Ann Lee_2"] == {"name": "Ann Lee_2", "org": "There"}
    assert network.authors.edges["Ann Lee", "Ann Lee_2"]["papers"] == ["A Paper"]


def test_a_network_of_ones_own_is_played(tmp_path: Path) -> None:
    (tmp_path / "dblp.json").write_text(json.dumps(_V12))
    row = {"goal": "When?", "subgoals": [2013], "additional_info": {"tool": "academia", "answer": 2013}}
    (tmp_path / "tasks.jsonl").write_text(json.dumps(row))
    env = AcademiaEnv(data=tmp_path / "tasks.jsonl", graph=tmp_path / "dblp.json")
    env.reset(options={"split": "test"})
    _call(env, "loadPaperNet")
    assert "'year': 2013" in _call(env, "paperNodeCheck", node="A Paper")
    with pytest.raises(ConfigError, match="graph needs data=PATH"):
        AcademiaEnv(graph=tmp_path / "dblp.json")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "line 1: is no JSON object"),
        ("[3]", "line 1: is no object"),
        ('{"id": 1}', "line 1: field title is missing"),
        ('{"id": 1, "title": "x", "year": "soon"}', "line 1: a field is not as"),
        ('{"id": 1, "title": "x", "authors": [{"org": "y"}]}', "line 1: a field is not as"),
        ('{"id": 1, "title": "x", "fos": 5}', "line 1: a field is not as"),
        ("", "holds no paper"),
    ],
)
def test_files_that_are_wrong_are_named(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "dblp.json"
    path.write_text(text)
    with pytest.raises(DataError, match=said) as error:
        read(str(path))
    assert "\n" not in str(error.value)
    with pytest.raises(DataError, match="cannot be read"):
        read(str(tmp_path / "none.json"))
