// The page's own script: it asks the same public endpoints that anybody may ask. All text is put in as text.
"use strict";
const find = (selector, root = document) => root.querySelector(selector);
const status = (text) => { find("#status").textContent = text; };
let sides = [];

async function ask(method, path, body) {
  const headers = {};
  if (body !== undefined) headers["content-type"] = "application/json";
  const key = sessionStorage.getItem("key");
  if (key) headers.authorization = `Bearer ${key}`;
  const keepalive = method === "DELETE";  // is sent though the page goes away
  const answer = await fetch(path, { method, headers, keepalive, body: body === undefined ? undefined : JSON.stringify(body) });
  if (answer.status === 401) find("#keybox").hidden = false;
  if (!answer.ok) {
    const problem = await answer.json().catch(() => ({}));
    throw new Error(problem.error ? problem.error.message : `the server answered ${answer.status}`);
  }
  return answer;
}
const askJson = async (...request) => (await ask(...request)).json();

// Server-sent events of a POST, which EventSource cannot make.
async function* events(path) {
  const reader = (await ask("POST", path)).body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    const parts = (rest + value).split("\n\n");
    rest = parts.pop();
    for (const part of parts) {
      const [name, data] = part.split("\n");
      yield [name.slice("event: ".length), JSON.parse(data.slice("data: ".length))];
    }
  }
}

class Side {
  constructor(view) {
    this.root = find("#side").content.firstElementChild.cloneNode(true);
    this.path = `/v1/agent/sessions/${encodeURIComponent(view.id)}`;
    this.root.setAttribute("aria-label", `Episode of ${view.model}`);
    find("h2", this.root).textContent = view.model;
    find(".instruction", this.root).textContent = view.instruction;
    find(".first", this.root).textContent = view.observation;
    const list = find("datalist", this.root);
    list.id = `valid-${view.id}`;
    find(".own input", this.root).setAttribute("list", list.id);
    find(".act", this.root).onclick = () => this.change("POST", "/act");
    find(".undo", this.root).onclick = () => this.change("POST", "/undo");
    find(".run", this.root).onclick = () => this.run();
    find(".own", this.root).onsubmit = async (event) => {
      event.preventDefault();
      const input = find(".own input", this.root);
      if (await this.change("POST", "/step", { action: input.value })) input.value = "";
    };
    this.show(view);
  }

  busy(on) {
    for (const control of this.root.querySelectorAll("button, .own input")) control.disabled = on;
    this.root.setAttribute("aria-busy", String(on));
    if (!on) this.enable();
  }

  enable() {
    for (const name of [".act", ".run", ".own input", ".own button"]) find(name, this.root).disabled = this.view.over;
    find(".undo", this.root).disabled = !this.view.rounds.length;
  }

  fail(error) {
    const box = find(".error", this.root);
    box.textContent = error ? error.message : "";
    box.hidden = !error;
  }

  say(text) {
    const box = find(".speaking", this.root);
    box.textContent = text;
    box.hidden = !text;
  }

  show(view) {
    this.view = view;
    const list = find(".rounds", this.root);
    while (list.children.length > view.rounds.length) list.lastElementChild.remove();
    view.rounds.slice(list.children.length).forEach((round) => list.append(row(round)));
    const score = find(".score", this.root);
    const percent = `${Math.round(100 * view.score)} %, step ${view.rounds.length} of ${view.max_rounds}`;
    score.textContent = (view.success ? "solved, " : view.over ? "not solved, " : "") + percent;
    score.className = `score ${view.success ? "won" : view.over ? "lost" : ""}`;
    find("datalist", this.root).replaceChildren(...view.valid_actions.slice(0, 500).map((action) => {
      const option = document.createElement("option");
      option.value = action;
      return option;
    }));
    this.enable();
  }

  async change(method, path, body) {
    this.fail(null);
    this.busy(true);
    try {
      this.show(await askJson(method, this.path + path, body));
      return true;
    } catch (error) {
      this.fail(error);
      return false;
    } finally {
      this.busy(false);
    }
  }

  async run() {
    if (this.view.over) return;
    this.fail(null);
    this.busy(true);
    let spoken = "";
    try {
      for await (const [name, data] of events(`${this.path}/run`)) {
        if (name === "token") this.say(spoken += data.text);
        if (name === "step") { this.say(spoken = ""); this.show(data); }
        if (name === "error") throw new Error(data.error.message);
      }
    } catch (error) {
      this.fail(error);
    } finally {
      this.say("");
      this.busy(false);
    }
  }

  close() {
    ask("DELETE", this.path).catch(() => {});  // it may have expired already
  }
}

function row(round) {
  const item = document.createElement("li");
  item.className = round.by;
  const line = (kind, text) => {
    if (!text) return;
    const element = document.createElement(kind === "observation" ? "pre" : "div");
    element.className = kind;
    element.textContent = text;
    item.append(element);
  };
  line("who", `step ${round.number}, ${round.by === "person" ? "you" : "agent"}`);
  line("thought", round.thought);
  line("action", round.action === null ? `no action: ${round.text}` : round.action);
  line("observation", round.observation);
  return item;
}

async function start(event) {
  event.preventDefault();
  if (find("#key").value) { sessionStorage.setItem("key", find("#key").value); find("#key").value = ""; await load(); }
  const models = [...document.querySelectorAll("#models input:checked")].map((box) => box.value);
  if (!models.length) { status("Choose a model."); return; }
  sides.forEach((side) => side.close());
  sides = [];
  find("#sides").replaceChildren();
  const setup = { environment: find("#environment").value, split: find("#split").value, task: Number(find("#task").value) };
  try {
    for (const model of models) {
      const side = new Side(await askJson("POST", "/v1/agent/sessions", { ...setup, model }));
      sides.push(side);
      find("#sides").append(side.root);
    }
    status(`${setup.environment}, ${setup.split} task ${setup.task}: ready.`);
  } catch (error) {
    status(error.message);
  }
  find("#runall").disabled = !sides.length;
}

function limits() {
  const chosen = find("#environment").selectedOptions[0];
  if (!chosen) return;
  const count = Number(find("#split").value === "train" ? chosen.dataset.train : chosen.dataset.test);
  find("#task").max = String(Math.max(0, count - 1));
}

async function load() {
  try {
    const [environments, models] = await Promise.all([askJson("GET", "/v1/agent/environments"), askJson("GET", "/v1/models")]);
    find("#environment").replaceChildren(...environments.data.map((each) => {
      const option = document.createElement("option");
      option.value = option.textContent = each.name;
      option.dataset.train = each.n_train;
      option.dataset.test = each.n_test;
      return option;
    }));
    const boxes = models.data.map((model) => {
      const label = document.createElement("label");
      const box = document.createElement("input");
      box.type = "checkbox";
      box.value = model.id;
      box.checked = true;
      label.append(box, ` ${model.id}`);
      return label;
    });
    find("#models").replaceChildren(find("#models legend"), ...boxes);
    limits();
    status("");
  } catch (error) {
    status(error.message);
  }
}

addEventListener("DOMContentLoaded", () => {
  find("#setup").onsubmit = start;
  find("#runall").onclick = () => sides.forEach((side) => side.run());
  find("#environment").onchange = limits;
  find("#split").onchange = limits;
  addEventListener("pagehide", () => sides.forEach((side) => side.close()));
  load();
});
