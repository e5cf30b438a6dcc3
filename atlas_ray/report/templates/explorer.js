// The explorer: filters the data that stands in the page and draws one item at a time, by `drawings.js`.
"use strict";
const DATA = JSON.parse(document.getElementById("explorer-data").textContent);
const ROWS_SHOWN = 200;
const unique = (values) => [...new Set(values)].sort();

// A list with a search box and filters on the left, the chosen item on the right.
function explorer(root, { items, filters, matches, title, draw, order, noun }) {
  const search = make("input", { type: "search", placeholder: "search in all texts", "aria-label": `search ${noun}`, oninput: refresh });
  const made = filters.map(([label, options]) => select(label, options, refresh));
  const count = make("p", { class: "soft small", role: "status", "aria-live": "polite" });
  const list = make("ul", { class: "picker", "aria-label": noun });
  const shown = make("div", { class: "shown" });
  root.append(make("div", { class: "filters" }, search, ...made.map(([label]) => label)), count,
    make("div", { class: "explore" }, list, shown));
  const texts = items.map((item) => JSON.stringify(item).toLowerCase());
  let chosen = null;

  function open(item) {
    chosen = item;
    shown.replaceChildren(...draw(item));
    for (const button of list.querySelectorAll("button")) button.setAttribute("aria-current", String(button.item === item));
  }

  function refresh() {
    const words = search.value.toLowerCase().split(/\s+/).filter(Boolean).map((word) => JSON.stringify(word).slice(1, -1));
    const values = made.map(([, box]) => box.value);
    const found = items.filter((item, at) => words.every((word) => texts[at].includes(word)) && matches(item, values));
    if (order) found.sort((a, b) => order(a, b, values));
    count.textContent = `${found.length} of ${items.length} ${noun}` + (found.length > ROWS_SHOWN ? `, the first ${ROWS_SHOWN} are listed` : "");
    list.replaceChildren(...found.slice(0, ROWS_SHOWN).map((item) => {
      const button = make("button", { type: "button", onclick: () => open(item) }, ...title(item));
      button.item = item;
      return make("li", {}, button);
    }));
    if (!found.includes(chosen)) { if (found.length) open(found[0]); else { chosen = null; shown.replaceChildren(); } }
    else open(chosen);
  }
  refresh();
}

const trajectories = document.getElementById("explore-trajectories");
if (trajectories && DATA.trajectories.length) {
  explorer(trajectories, {
    items: DATA.trajectories, noun: "trajectories", draw: (item) => drawTrajectory(item),
    filters: [
      ["environment", [["", "all"], ...unique(DATA.trajectories.map((item) => item.env)).map((env) => [env, env])]],
      ["judged by", [["", "any selection or none"], ...Object.keys(DATA.selections).map((name) => [name, name])]],
      ["order", [["", "as collected"], ["disagreement", "most disagreement first"], ["length", "longest first"]]],
    ],
    matches: (item, [env, method]) => (!env || item.env === env) && (!method || method in item.picks),
    order: (a, b, [, , by]) => by === "disagreement" ? b.disagreement - a.disagreement : by === "length" ? b.n - a.n : 0,
    title: (item) => [make("b", { text: item.env }), ` ${item.id} `, make("span", { class: "soft small", text: `${item.n} steps${item.disagreement ? `, disagreement ${percent(item.disagreement)}` : ""}` })],
  });
}
const episodes = document.getElementById("explore-episodes");
if (episodes && DATA.episodes.length) {
  const outcome = ({ sides: [base, tuned] }) => `${base.solved ? "solved" : "failed"} to ${tuned.solved ? "solved" : "failed"}`;
  explorer(episodes, {
    items: DATA.episodes, noun: "episodes", draw: drawPair,
    filters: [
      ["environment", [["", "all"], ...unique(DATA.episodes.map((item) => item.env)).map((env) => [env, env])]],
      ["outcome", [["", "all"], ...unique(DATA.episodes.map(outcome)).map((text) => [text, `${DATA.models[0]} ${text.replace("to", `to ${DATA.models[1]}`)}`])]],
    ],
    matches: (item, [env, result]) => (!env || item.env === env) && (!result || outcome(item) === result),
    title: (item) => [make("b", { text: item.env }), ` task ${item.task}`, badge(item.sides[1].solved)],
  });
}
