// The live view: asks what has changed, swaps those sections, and loads rows as they are looked at. `drawings.js` draws
// one row. What is chosen stands in the address, so that it can be kept and shared. All text is put in as text.
"use strict";
const EVERY_MS = 2000, PAGE = 100, MOST = 500, TYPING_MS = 120;
let state = { sections: [], runs: [], colors: "" };

async function ask(path, values = {}) {
  const given = new URLSearchParams(Object.entries(values).filter(([, value]) => value !== "" && value !== null));
  const answer = await fetch(`${path}?${given}`);
  const body = await answer.json();
  if (!answer.ok) throw new Error(body.error ?? body.error?.message ?? answer.statusText);
  return body;
}

// --- the address ------------------------------------------------------------------------------------------------------
const address = () => new URLSearchParams(location.hash.slice(1));
function keep(values) {
  const all = address();
  for (const [name, value] of Object.entries(values)) if (value) all.set(name, value); else all.delete(name);
  history.replaceState(null, "", `#${all}`);
}

// --- lists ------------------------------------------------------------------------------------------------------------
const number = (value) => value.toLocaleString("en");
const across = (part, name) => [...new Set(state.runs.flatMap((run) => run[part][name] ?? []))].sort();

// A list with a search box and filters, and the chosen row. `filters` are [name, label, options of the state, no option].
class List {
  constructor(root, { prefix, path, noun, filters, title, open }) {
    Object.assign(this, { prefix, path, noun, title, open, rows: [], matched: 0, turn: 0, chosen: null });
    this.search = make("input", { type: "search", placeholder: "search in all texts", "aria-label": `search ${noun}`, oninput: () => this.typed() });
    this.filters = filters.map(([name, label, options, blank = "all"]) => {
      const [element, box] = select(label, [["", blank]], () => this.changed());
      return { name, options: () => [["", blank], ...options()], element, box, known: "" };
    });
    this.count = make("p", { class: "soft small", role: "status", "aria-live": "polite" });
    this.list = make("ul", { class: "picker", "aria-label": noun });
    this.shown = make("div", { class: "shown" });
    this.more = new IntersectionObserver((seen) => { if (seen.some((each) => each.isIntersecting)) this.grow(); }, { root: this.list });
    root.append(make("div", { class: "filters" }, this.search, ...this.filters.map(({ element }) => element)), this.count,
      make("div", { class: "explore" }, this.list, this.shown));
    root.addEventListener("focusin", () => { lists.last = this; });
    this.fromAddress();
  }

  fromAddress() {
    const all = address();
    this.search.value = all.get(`${this.prefix}.q`) ?? "";
    this.wanted = Object.fromEntries(this.filters.map(({ name }) => [name, all.get(`${this.prefix}.${name}`) ?? ""]));
    this.chosen = all.get(`${this.prefix}.of`) ? { run: all.get(`${this.prefix}.of`), key: all.get(`${this.prefix}.open`) } : null;
    this.fill();
  }

  // Options come with the state; a value of the address waits until its option is there.
  fill() {
    for (const filter of this.filters) {
      const found = filter.options(), text = JSON.stringify(found), value = this.wanted[filter.name];
      if (text !== filter.known) filter.box.replaceChildren(...found.map(([each, label]) => make("option", { value: each, text: label })));
      filter.known = text;
      filter.box.value = found.some(([each]) => each === value) ? value : "";
    }
  }

  query() { return { ...this.wanted, q: this.search.value }; }
  keep() { keep(Object.fromEntries(Object.entries({ ...this.query(), of: this.chosen?.run, open: this.chosen?.key }).map(([name, value]) => [`${this.prefix}.${name}`, value]))); }
  typed() { clearTimeout(this.waiting); this.waiting = setTimeout(() => this.changed(), TYPING_MS); }
  changed() {
    for (const { name, box } of this.filters) this.wanted[name] = box.value;
    this.keep();
    this.list.scrollTop = 0;
    this.load(PAGE, true);
  }

  // The first rows anew; an answer that another question has overtaken is dropped. After another `question`, a chosen row
  // that is not among them makes room for the first one.
  async load(limit, question = false) {
    const turn = ++this.turn;
    let answer;
    try { answer = await ask(this.path, { ...this.query(), limit }); } catch (error) {
      if (turn === this.turn) this.count.textContent = error.message;
      return;
    }
    if (turn !== this.turn) return;
    const focused = this.list.contains(document.activeElement), top = this.list.scrollTop;
    this.rows = [];
    this.list.replaceChildren();
    this.take(answer);
    this.list.scrollTop = top;
    if (focused) this.buttons()[this.marked()]?.focus({ preventScroll: true });
    if (question && this.marked() < 0) { this.chosen = null; this.shown.replaceChildren(); this.keep(); }
    if (this.chosen === null && this.rows.length) this.choose(this.rows[0], false);
  }

  // What is new where so many rows are here that they are not asked for again.
  async recount() {
    const turn = this.turn, { total, matched } = await ask(this.path, { ...this.query(), limit: 0 });
    if (turn === this.turn) this.take({ total, matched, rows: [] });
  }

  async grow() {
    if (this.growing || this.rows.length >= this.matched) return;
    this.growing = true;
    const turn = this.turn;
    try {
      const answer = await ask(this.path, { ...this.query(), limit: PAGE, offset: this.rows.length });
      if (turn === this.turn) this.take(answer);
    } catch (error) { this.count.textContent = error.message; } finally { this.growing = false; }
  }

  take({ total, matched, rows }) {
    this.matched = matched;
    this.count.textContent = `${number(matched)} of ${number(total)} ${this.noun}`;
    this.more.disconnect();
    this.list.querySelector(".more")?.parentElement.remove();
    for (const given of rows) {
      const row = { key: given.trajectory_id, ...given }; // an episode has a key
      const button = make("button", { type: "button", onclick: () => this.choose(row) }, ...this.title(row));
      button.row = row;
      this.rows.push(row);
      this.list.append(make("li", {}, button));
    }
    if (this.rows.length < matched) {
      const more = make("button", { type: "button", class: "more", text: `${number(matched - this.rows.length)} more`, onclick: () => this.grow() });
      this.list.append(make("li", {}, more));
      this.more.observe(more);
    }
    this.mark();
  }

  buttons() { return [...this.list.querySelectorAll("button:not(.more)")]; }
  is(row) { return this.chosen !== null && row.run === this.chosen.run && row.key === this.chosen.key; }
  marked() { return this.rows.findIndex((row) => this.is(row)); }
  mark() { for (const button of this.buttons()) button.setAttribute("aria-current", String(this.is(button.row))); }

  choose(row, keeps = true) {
    this.chosen = { run: row.run, key: row.key };
    if (keeps) this.keep();
    this.mark();
    this.draw(true);
  }

  // The chosen row; unless it is a new one, it is drawn again only where it has changed.
  async draw(anew = false) {
    const chosen = this.chosen;
    if (chosen === null) return;
    let drawn;
    try { drawn = await this.open(chosen, this); } catch (error) { drawn = { text: error.message, elements: () => [make("p", { class: "warn", text: error.message })] }; }
    if (chosen !== this.chosen || (!anew && drawn.text === this.drawn)) return;
    this.drawn = drawn.text;
    const opened = anew ? new Set() : openedIn(this.shown);
    this.shown.className = `shown ${drawn.colours ?? ""}`;
    this.shown.replaceChildren(...drawn.elements());
    reopen(this.shown, opened);
  }

  step(by) {
    const buttons = this.buttons(), next = buttons[Math.max(0, this.marked() + by)];
    if (this.marked() + by >= buttons.length - 1) this.grow();
    if (!next) return;
    this.choose(next.row);
    next.scrollIntoView({ block: "nearest", behavior: "instant" });
  }
}

const openedIn = (root) => new Set([...root.querySelectorAll("details[open] > summary")].map((each) => each.textContent));
function reopen(root, opened) {
  for (const summary of root.querySelectorAll("details > summary")) if (opened.has(summary.textContent)) summary.parentElement.open = true;
}

const plain = (values) => values.map((value) => [value, value]);
const runs = () => plain(state.runs.map((run) => run.name));
const outcome = (value) => value === null ? null : make("span", { class: value === "solved" ? "good" : "bad", text: ` ${value}` });
const ofRun = (row) => state.runs.length > 1 ? [make("span", { class: "soft small", text: `${row.run}: ` })] : [];

// --- trajectories -----------------------------------------------------------------------------------------------------
function lazyMask(item, name) {
  const inside = make("div", { class: "inside" }, make("p", { class: "soft small", text: "Reading the tokens." }));
  const details = make("details", { ontoggle: async () => {
    if (!details.open || details.asked) return;
    details.asked = true;
    try {
      const whole = await ask("/api/trajectory", { run: name, id: item.id, tokens: 1 });
      const drawn = mask(whole);
      inside.replaceChildren(...(drawn ? drawn.querySelector(".inside").childNodes : [make("p", { class: "warn", text: whole.refused ?? "There are no tokens." })]));
    } catch (error) { inside.replaceChildren(make("p", { class: "warn", text: error.message })); details.asked = false; }
  } }, make("summary", { text: "The tokens and their loss mask" }), inside);
  return details;
}

async function openTrajectory({ run, key }) {
  const item = await ask("/api/trajectory", { run, id: key });
  return { text: JSON.stringify(item), colours: `run${item.run}`, elements: () => drawTrajectory(item, () => lazyMask(item, run)) };
}

// --- episodes ---------------------------------------------------------------------------------------------------------
async function openEpisode({ run, key }, list) {
  const item = await ask("/api/episode", { run, key });
  const { rows } = await ask("/api/episodes", { env: item.env, split: item.split, task: item.task, limit: MOST });
  const others = rows.filter((row) => row.run !== run || row.key !== key);
  const named = (row) => `${state.runs.length > 1 ? `${row.run}: ` : ""}${row.model}, seed ${row.seed}, ${row.outcome}`;
  const sides = make("div", { class: "sides" }, drawSide(item));
  const [label, box] = select("beside it", [["", "nothing"], ...others.map((row) => [`${row.run}/${row.key}`, named(row)])], async () => {
    keep({ "e.beside": box.value });
    const other = others.find((row) => `${row.run}/${row.key}` === box.value);
    sides.replaceChildren(drawSide(item), ...(other ? [drawSide(await ask("/api/episode", { run: other.run, key: other.key }))] : []));
  });
  // The model that stood beside the last one stands beside the next one too.
  const wanted = address().get("e.beside"), model = list.beside;
  box.addEventListener("change", () => { list.beside = others.find((row) => `${row.run}/${row.key}` === box.value); });
  const match = others.find((row) => `${row.run}/${row.key}` === wanted) ?? (model && others.find((row) => row.run === model.run && row.model === model.model && row.seed === item.seed));
  if (match) { box.value = `${match.run}/${match.key}`; box.dispatchEvent(new Event("change")); }
  const elements = () => [make("h3", { text: `${item.env} ${item.split} task ${item.task}, seed ${item.seed}` }), others.length ? label : null,
    make("details", {}, make("summary", { class: "small soft", text: "Instruction and first observation" }), make("div", { class: "inside" }, make("pre", { text: item.opening }))),
    sides].filter(Boolean);
  return { text: JSON.stringify([item, others]), elements };
}

// --- following --------------------------------------------------------------------------------------------------------
const lists = {
  trajectories: new List(document.getElementById("trajectories"), {
    prefix: "t", path: "/api/trajectories", noun: "trajectories", open: openTrajectory,
    filters: [
      ["run", "run", runs], ["env", "environment", () => plain(across("trajectories", "env"))],
      ["style", "style", () => plain(across("trajectories", "style"))],
      ["selection", "judged by", () => plain(across("trajectories", "selection"))],
      ["method", "method", () => plain(across("trajectories", "method"))],
      ["outcome", "outcome", () => plain(["solved", "failed"])],
      ["order", "order", () => [["n_steps", "longest first"]], "as collected"],
    ],
    title: (row) => [...ofRun(row), make("b", { text: row.env }), ` ${row.key} `, make("span", { class: "soft small", text: `${row.n_steps} steps` }), outcome(row.outcome)],
  }),
  episodes: new List(document.getElementById("episodes"), {
    prefix: "e", path: "/api/episodes", noun: "episodes", open: openEpisode,
    filters: [
      ["run", "run", runs], ["model", "model", () => plain(across("episodes", "model"))],
      ["env", "environment", () => plain(across("episodes", "env"))], ["outcome", "outcome", () => plain(["solved", "failed", "error"])],
      ["order", "order", () => [["score", "best first"], ["rounds", "longest first"]], "as played"],
    ],
    title: (row) => [...ofRun(row), make("b", { text: row.model }), ` ${row.env} task ${row.task} `, make("span", { class: "soft small", text: `${row.rounds} rounds` }), outcome(row.outcome)],
  }),
};
lists.last = lists.trajectories;

// A section in place of the old one, where the reader had it: scrolled tables and open parts stay.
async function swap({ anchor, title, version }) {
  let section = document.getElementById(anchor);
  if (section?.dataset.version === version) return;
  if (!section) {
    section = make("section", { id: anchor, "aria-labelledby": `${anchor}-title` }, make("h2", { id: `${anchor}-title`, text: title }), make("div"));
    document.getElementById("sections").append(section);
  }
  const html = await (await fetch(`/api/sections/${anchor}`)).text();
  const body = new DOMParser().parseFromString(html, "text/html").body;
  const old = section.lastElementChild, opened = openedIn(old), lefts = [...old.querySelectorAll(".scroll")].map((each) => each.scrollLeft);
  old.replaceChildren(...body.childNodes);
  reopen(old, opened);
  old.querySelectorAll(".scroll").forEach((each, at) => { each.scrollLeft = lefts[at] ?? 0; });
  section.dataset.version = version;
}

function navigation() {
  const links = [...state.sections.map(({ anchor, title }) => [anchor, title]), ["trajectories", "Trajectories"], ["episodes", "Episodes"]];
  const nav = document.getElementById("nav");
  if (nav.childElementCount === links.length) return;
  nav.replaceChildren(...links.map(([anchor, text]) => make("a", { href: `#${anchor}`, text, onclick: (event) => {
    event.preventDefault(); // the address keeps what is chosen
    document.getElementById(anchor).scrollIntoView();
  } })));
}

const versions = (parts) => JSON.stringify(state.runs.map((run) => parts.map((part) => run.versions[part])));
const seen = {};
async function refresh() {
  const fresh = await ask("/api/state");
  if (fresh.colors !== state.colors) document.getElementById("colors").href = `/colors.css?${fresh.colors}`;
  state = fresh;
  const swapped = Promise.all(state.sections.map(swap));
  navigation();
  for (const [name, parts] of [["trajectories", ["trajectories", "figures", "report"]], ["episodes", ["episodes", "report"]]]) {
    const list = lists[name], now = versions(parts);
    list.fill();
    if (seen[name] === now) continue;
    seen[name] = now;
    if (list.rows.length <= MOST) list.load(Math.max(PAGE, list.rows.length)); else list.recount();
    list.draw();
  }
  await swapped;
  const read = state.runs.filter((run) => run.reading).map((run) => `${run.reading} of ${run.name}`);
  const said = read.length ? `Reading ${read.join(", ")}.` : `Following ${state.runs.length} run${state.runs.length === 1 ? "" : "s"}.`;
  if (document.getElementById("said").textContent !== said) document.getElementById("said").textContent = said;
}

async function follow() {
  try { await refresh(); } catch (error) { document.getElementById("said").textContent = `The server does not answer (${error.message}); this page goes on when it does.`; }
  setTimeout(follow, EVERY_MS);
}

window.addEventListener("hashchange", () => {
  for (const list of [lists.trajectories, lists.episodes]) { list.fromAddress(); list.load(PAGE); list.draw(true); }
});
document.addEventListener("keydown", (event) => {
  const typing = event.target.matches("input, select, textarea");
  if (event.key === "Escape" && event.target.matches("input")) { event.target.value = ""; lists.last.changed(); event.target.blur(); return; }
  if (typing || event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.key === "/") { event.preventDefault(); lists.last.search.focus(); }
  if (event.key === "j") lists.last.step(1);
  if (event.key === "k") lists.last.step(-1);
});
follow();
