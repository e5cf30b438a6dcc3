"""The written report: complete, self-contained, escaped, and honest about what is missing."""

from __future__ import annotations

from collections.abc import Callable
from html.parser import HTMLParser

import pytest

from atlas_ray.config import PipelineConfig
from atlas_ray.environments.contract import EnvironmentCard
from atlas_ray.report import write_report
from atlas_ray.report.tables import escape
from atlas_ray.store import Store
from tests.report.synthetic import HOSTILE, RATES, write_model, write_run

VOID = {"meta", "br", "img", "input", "hr", "link"}


class Page(HTMLParser):
    """Tags, attributes and text of a page; refuses unbalanced tags."""

    def __init__(self, source: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self._tables: list[list[list[str]]] = []
        self.feed(source)
        self.close()

    def tables(self) -> list[list[list[str]]]:
        """The cells of every table, row by row."""
        return self._tables

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self.text += " " * (tag in ("td", "th"))
        if tag == "table":
            self._tables.append([])
        elif tag == "tr":
            self._tables[-1].append([])
        elif tag in ("td", "th"):
            self._tables[-1][-1].append("")
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag, f"</{tag}> at {self.getpos()}"

    def handle_data(self, data: str) -> None:
        if "style" not in self.open and "script" not in self.open:
            self.text += data
            if "td" in self.open or "th" in self.open:
                self._tables[-1][-1][-1] += data

    def words(self) -> str:
        """The text with its whitespace folded."""
        return " ".join(self.text.split())


@pytest.fixture(scope="module")
def written(run: Store, config: PipelineConfig, cards: dict[str, EnvironmentCard]) -> tuple[str, Page]:
    """The Markdown and the parsed page of the finished run."""
    markdown, html = write_report(config, run, cards)
    assert markdown == run.path("report.md")
    assert html == run.path("report.html")
    return run.read_text("report.md"), Page(run.read_text("report.html"))


def test_page_is_well_formed_and_small(written: tuple[str, Page], run: Store) -> None:
    assert written[1].open == []
    assert len(run.read_text("report.html").encode()) < 1_000_000


def test_page_asks_no_one_for_anything(written: tuple[str, Page]) -> None:
    for tag, attributes in written[1].tags:
        assert tag not in {"img", "iframe", "object", "embed", "link", "base", "form"}
        assert not any(name.startswith("on") for name in attributes)
        assert "src" not in attributes
        assert (attributes.get("href") or "#").startswith("#")
    policies = [a["content"] for tag, a in written[1].tags if a.get("http-equiv") == "Content-Security-Policy"]
    assert len(policies) == 1
    assert policies[0].startswith("default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-")
    assert [a.get("id") for tag, a in written[1].tags if tag == "script"] == ["explorer-data", None]


def test_links_lead_somewhere(written: tuple[str, Page]) -> None:
    ids = [attributes["id"] for _, attributes in written[1].tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    targets = {str(attributes["href"])[1:] for tag, attributes in written[1].tags if tag == "a"}
    assert targets
    assert targets <= set(ids)


def test_hostile_text_is_shown_as_text(written: tuple[str, Page], run: Store) -> None:
    markdown, _ = written
    html = run.read_text("report.html")
    assert html.count("<script") == html.count("</script>") == 2  # the explorer's data and script
    assert html.count(HOSTILE.replace("<", "\\u003c").replace(">", "\\u003e").replace('"', '\\"')) > 20
    assert "<script" not in markdown


def test_hostile_names_are_shown_as_text(
    new_store: Callable[[], Store], config: PipelineConfig, cards: dict[str, EnvironmentCard]
) -> None:
    store = new_store()
    name = "<script>alert(2)<script>"
    write_model(store, name, (0.5, 0.5))
    store.finish("train", name, "k", seconds=1.0, note="<img src=x onerror=alert(3)>")
    store.append([{"checkpoint": name, "step": 1, "loss": 1.0}], "metrics", "train.jsonl")
    markdown, html = write_report(config, store, cards)
    page = Page(store.read_text("report.html"))
    assert page.open == []
    assert [tag for tag, _ in page.tags if tag in ("script", "img")] == ["script", "script"]
    assert page.text.count(name) >= 3
    assert "\\<script>" in store.read_text("report.md")
    assert "<script" not in store.read_text("report.md").replace("\\<script", "")
    assert markdown.endswith("report.md")
    assert html.endswith("report.html")


def tables_of(markdown: str) -> list[list[list[str]]]:
    """The cells of every table of a Markdown text, row by row, as they stand there."""
    found: list[list[list[str]]] = []
    before = ""
    for line in markdown.splitlines():
        if line.startswith("| "):
            cells = line[2:-2].split(" | ")
            if not before.startswith("| "):
                found.append([])
            if set(line) - set("|-: "):
                found[-1].append(cells)
        before = line
    return found


def test_both_have_the_same_tables_with_the_same_cells(written: tuple[str, Page]) -> None:
    markdown, page = written
    assert len(page.tables()) == 9
    assert [[list(map(escape, row)) for row in shown] for shown in page.tables()] == tables_of(markdown)


def test_both_tell_the_result(written: tuple[str, Page]) -> None:
    for text in (" ".join(written[0].split()), written[1].words()):
        assert "Tuned on the steps that llm selected, the model solved 37 of 48 test tasks; untuned it solved 0" in text
        assert "This is more than luck." in text
        assert "The warm-up alone already solved 21 of 44 test tasks" in text
        assert "A random policy solved 7 of 48" in text
        assert "stands in for a selector LLM" in text
        assert "79.2 [59.5, 90.8]" in text
        assert "(n=22, 2 errors)" in text
        assert "not to be trusted" in text
        assert "2 × invalid" in text
        assert "16 min 28 s" in text
        assert "atlas-ray pipeline --config" in text
        assert "python jobs/train.py --config my.yaml # made train llm" in text
        assert "8,400 tokens, $0.0200" in text  # the selector's 20 answers
        assert "22,500 tokens read" in text
        assert "Verification of critical steps" in text
        assert "+16.7 [-8.3, +41.7], p = 0.250 (n=12)" in text


def test_page_has_every_section_filled(written: tuple[str, Page]) -> None:
    page = written[1]
    # Loss and gradient norm of two checkpoints; success over rounds of four models in two environments.
    assert sum(tag == "polyline" for tag, _ in page.tags) == 2 * 2 + 4 * 2
    classes = [str(attributes.get("class")) for _, attributes in page.tags]
    assert classes.count("whisker") == len(RATES) * 2
    assert "31.0 % 22 (+2 retries)" in page.words()
    assert "Missing from this run" not in page.words()


def test_an_empty_run_directory_is_said_not_raised(
    new_store: Callable[[], Store], config: PipelineConfig, cards: dict[str, EnvironmentCard]
) -> None:
    store = new_store()
    write_report(config, store, cards)
    for text in (store.read_text("report.md"), Page(store.read_text("report.html")).words()):
        assert "No tuned model was evaluated, so there is no result yet." in text
        assert "Trajectories: none; collect has not run." in text
        assert "Selection perplexity: none; select has not run for it." in text
        assert "Model warmup: not evaluated." in text
        assert "Checkpoint llm: no training log." in text
        assert "Stage evaluate: has not run" in text
        assert "No model was evaluated." in text
    assert not store.exists("report.png")
    assert not any(tag in ("svg", "table") for tag, _ in Page(store.read_text("report.html")).tags)


def test_missing_models_and_optional_fields(
    new_store: Callable[[], Store], config: PipelineConfig, cards: dict[str, EnvironmentCard]
) -> None:
    store = new_store()
    write_model(store, "llm", (0.5, 0.5))
    store.append([{"checkpoint": "llm", "step": s, "loss": 2.0 - s / 10} for s in (1, 2, 3)], "metrics", "train.jsonl")
    store.append([{"checkpoint": "all", "step": 1, "loss": 2.0}], "metrics", "train.jsonl")
    write_report(config, store, cards)
    text = Page(store.read_text("report.html")).words()
    assert "cannot be compared with the untuned one: base was not evaluated." in text
    assert "What these steps add to the warm-up cannot be told: warmup was not evaluated." in text
    assert "llm 3 1.900 1.700 – – – –" in text
    assert "Fewer than two points: nothing to draw." in text


def test_a_model_without_a_finished_episode_has_no_result(
    new_store: Callable[[], Store], config: PipelineConfig, cards: dict[str, EnvironmentCard]
) -> None:
    store = new_store()
    write_model(store, "base", (0.0, 0.0))
    write_model(store, "llm", (0.0, 0.0), errors=24)
    write_report(config, store, cards)
    text = Page(store.read_text("report.html")).words()
    assert "no result (24 errors)" in text
    assert "they share no finished test episode" in text


def test_report_is_written_anew(run: Store, config: PipelineConfig, cards: dict[str, EnvironmentCard]) -> None:
    first = [run.read_text(name) for name in ("report.md", "report.html")]
    write_report(config, run, cards)
    second = [run.read_text(name) for name in ("report.md", "report.html")]
    for before, after in zip(first, second, strict=True):
        assert [line for line in before.splitlines() if " UTC" not in line] == [
            line for line in after.splitlines() if " UTC" not in line
        ]


def test_run_directories_may_be_urls(config: PipelineConfig, cards: dict[str, EnvironmentCard]) -> None:
    store = Store("memory://report-test/quickstart")
    write_run(store)
    write_report(config, store, cards)
    assert "37 of 48" in store.read_text("report.md")
    assert store.exists("report.png")
