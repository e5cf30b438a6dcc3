// One trajectory or episode as elements: the report's page and the live view draw with these. All text is put in as text.
"use strict";
function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name === "text") element.textContent = value;
    else if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (value !== null && value !== false) element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.filter((child) => child !== null));
  return element;
}
// A chosen step's weight in the loss; a step of weight 0.01 can still be seen.
const FAINTEST = 0.25;
const weightOf = (pick, step) => pick.weights?.[pick.steps.indexOf(step)] ?? 1;
const percent = (value) => `${Math.round(100 * value)} %`;

function select(label, options, changed) {
  const box = make("select", { onchange: changed }, ...options.map(([value, text]) => make("option", { value, text })));
  return [make("label", { text: `${label} ` }, box), box];
}

const badge = (solved) => solved === null ? null : make("span", { class: solved ? "good" : "bad", text: solved ? " solved" : " failed" });

function steps(item, marks) {
  return item.exchanges.map(([thought, action, observation], step) => {
    const who = marks ? marks(step) : [];
    const kind = (at) => !item.kinds || item.kinds[at] === "productive" ? null : make("i", { text: item.kinds[at] });
    const part = (kind, text) => text ? make("div", { class: `part ${kind}` }, make("span", { text: kind }), make("pre", { text })) : null;
    return make("div", { class: who.length ? "step on" : "step", id: marks ? `x${step}` : null },
      make("div", { class: "head" }, make("b", { text: `step ${step}` }), kind(step), ...who.map((text) => make("span", { text }))),
      part("thought", thought), part("action", action), part("observation", observation));
  });
}

// The address of the page stays: the live view keeps its state there.
function toStep(event) {
  event.preventDefault();
  document.getElementById(new URL(event.currentTarget.href).hash.slice(1)).scrollIntoView();
}

function timeline(item) {
  const rows = Object.entries(item.picks).flatMap(([method, pick]) => {
    const top = Math.max(0, ...(pick.scores ?? [])), bottom = Math.min(0, ...(pick.scores ?? []));
    const height = (score) => 100 * Math.abs(score) / (top - bottom || 1), zero = height(top);
    const cell = (step) => {
      const at = pick.steps.indexOf(step), weight = weightOf(pick, step);
      const text = `${method}: step ${step}${at < 0 ? " not picked" : ` picked${weight === 1 ? "" : `, weight ${weight}`}`}`;
      const mark = make("span", { class: at < 0 ? "mark" : "mark on", role: "img", "aria-label": text });
      if (at >= 0) mark.style.opacity = FAINTEST + (1 - FAINTEST) * weight;
      return make("td", { title: text }, mark);
    };
    const bar = (score) => { // up from the zero line, or down from it
      const fill = make("i", { class: score < 0 ? "below" : null }), line = make("u");
      fill.style.height = `${height(score)}%`;
      fill.style.top = `${score < 0 ? zero : zero - height(score)}%`;
      line.style.top = `${zero}%`;
      return make("td", {}, make("span", { class: "bar" }, fill, line), make("span", { class: "score", text: score.toPrecision(3) }));
    };
    const line = make("tr", { class: pick.class }, make("th", {}, make("span", { class: "key" }), method), ...item.exchanges.map((_, step) => cell(step)));
    return pick.scores ? [line, make("tr", { class: pick.class }, make("th", { class: "soft small", text: `${method} score` }), ...pick.scores.map(bar))] : [line];
  });
  const head = make("tr", {}, make("th", { class: "soft", text: "step" }), ...item.exchanges.map((_, step) => make("th", {}, make("a", { href: `#x${step}`, text: step, onclick: toStep }))));
  return make("div", { class: "scroll" }, make("table", { class: "timeline" }, head, ...rows));
}

function svg(tag, attributes, ...children) {
  const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

// A line over the steps, with a dot that tells its figures at each of them; picked steps are shaded.
function lineChart(values, picked, tell) {
  const top = Math.max(1, ...values), bottom = Math.min(0, ...values), last = values.length - 1;
  const x = (step) => 100 * step / Math.max(1, last), y = (value) => 100 * (top - value) / (top - bottom);
  const put = (element, left, above) => { element.style.left = left; element.style.top = above; return element; };
  const dots = values.map((value, step) => put(
    make("span", { class: "point", role: "img", tabindex: 0, title: tell(step), "aria-label": tell(step) }), `${x(step)}%`, `${y(value)}%`));
  const every = Math.ceil(values.length / 30);
  const numbers = values.map((_, step) => step).filter((step) => step % every === 0 || step === last);
  return make("div", { class: "chart value" },
    svg("svg", { viewBox: "0 0 100 100", preserveAspectRatio: "none", "aria-hidden": "true" },
      ...picked.map((step) => svg("rect", { x: x(step), y: 0, width: x(step + 1) - x(step), height: 100 })),
      svg("polyline", { points: values.map((value, step) => `${x(step)},${y(value)}`).join(" ") })),
    ...dots, ...[bottom, top].map((value) => put(make("span", { class: "y", text: value.toFixed(1) }), "", `${y(value)}%`)),
    ...numbers.map((step) => put(make("span", { class: "x", text: step === last ? "end" : step }), `${x(step)}%`, "")));
}

// What the value method found: how the rollouts from before each step fared, and the values that follow from it.
function curves(method, pick) {
  const { values, returns, samples } = pick.curve;
  const last = samples.length;
  const reward = (step) => step === last ? `the end: the expert's own reward ${returns[step].toFixed(2)}`
    : `before step ${step}: mean reward ${returns[step].toFixed(2)} of ${samples[step]} rollouts`;
  const value = (step) => `${step === last ? "the end" : `before step ${step}`}: value ${values[step].toFixed(2)}`;
  const caption = (text) => make("figcaption", { class: "small", text: `${method}: ${text}` });
  const drawn = [caption("mean reward of the rollouts from before each step (picked steps are shaded)"), lineChart(returns, pick.steps, reward)];
  if (values) drawn.push(caption("value, the discounted sum of those from there on"), lineChart(values, pick.steps, value));
  return make("figure", { class: pick.class }, ...drawn);
}

function mask(item) {
  if (!item.tokens) return null;
  const body = make("pre", { class: "mask" });
  const methods = Object.keys(item.picks);
  const [label, box] = select("loss of", [["", "all steps"], ...methods.map((name) => [name, name])], paint);
  const told = make("p", { class: "small soft" });
  function paint() {
    const chosen = box.value ? item.picks[box.value].steps : item.spans.map((_, step) => step);
    const labelled = new Set(chosen.flatMap((step) => { const [a, b] = item.spans[step]; return Array.from({ length: b - a }, (_, i) => a + i); }));
    body.replaceChildren(...item.tokens.map((text, at) => make(labelled.has(at) ? "mark" : "span", { text })));
    told.textContent = `${labelled.size} of ${item.tokens.length} tokens carry loss (${percent(labelled.size / item.tokens.length)})`;
  }
  paint();
  return make("details", {}, make("summary", { text: "The tokens and their loss mask" }), make("div", { class: "inside" }, label, told, body));
}

// `drawMask` makes the element with the tokens, or null.
function drawTrajectory(item, drawMask = mask) {
  const notes = Object.entries(item.picks).flatMap(([method, pick]) => {
    const text = pick.error || pick.note;
    return text ? [make("p", { class: "small" }, make("b", { text: method }), ` ${pick.error ? "failed" : "says"}:`), make("pre", { class: "small", text })] : [];
  });
  const marks = (step) => Object.entries(item.picks).filter(([, pick]) => pick.steps.includes(step))
    .map(([method, pick]) => [method, pick.categories ? `: ${pick.categories[pick.steps.indexOf(step)]}` : "",
      weightOf(pick, step) === 1 ? "" : ` (weight ${weightOf(pick, step)})`].join(""));
  const drawn = Object.entries(item.picks).filter(([, pick]) => pick.curve).map(([method, pick]) => curves(method, pick));
  return [make("h3", {}, `${item.id} `, badge(item.solved)), timeline(item), ...drawn, ...notes,
    make("details", {}, make("summary", { class: "small soft", text: "Instruction and first observation" }), make("div", { class: "inside" }, make("pre", { text: item.opening }))),
    drawMask(item), ...steps(item, marks)].filter(Boolean);
}

function drawPair(item) {
  return [make("h3", { text: `${item.env} task ${item.task}` }),
    make("details", {}, make("summary", { class: "small soft", text: "Instruction and first observation" }), make("div", { class: "inside" }, make("pre", { text: item.sides[1].opening }))),
    make("div", { class: "sides" }, ...item.sides.map(drawSide))];
}

function drawSide(side) {
  return make("div", {}, make("h3", {}, side.model, badge(side.error ? null : side.solved)),
    make("p", { class: "small soft", text: `score ${side.score.toFixed(2)}, ${side.exchanges.length} steps, ended by ${side.stop}${side.error ? `: ${side.error}` : ""}` }),
    ...steps(side));
}
