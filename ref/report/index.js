// ---- what was given -----------------------------------------------------------------------------------------
const data = JSON.parse(document.getElementById("data").textContent);
const byId = (id) => document.getElementById(id);
const WORDS = { inf: Infinity, "-inf": -Infinity, nan: NaN };
const number = (value) => (typeof value === "string" ? WORDS[value] : value); // null stays: not measured
const dumps = data.dumps.map((values, i) => ({ ...Object.fromEntries(data.row.map((k, j) => [k, values[j]])), given: i }));
const SIGNS = { failed: "!", refused: "–", bug: "×", undetermined: "?", match: "✓" };
const LOW = -1, HIGH = 3; // of the colours: log10 of a tenth of a floor and of a thousand floors
const AT_ONCE = 100; // rows that are added when the reader comes near the end
const state = { shown: [], count: 0 };

const add = (parent, tag, text, name) => {
  const element = parent.appendChild(document.createElement(tag));
  if (text !== undefined) element.textContent = text;
  if (name) element.className = name;
  return element;
};
function floors(value) {
  const v = number(value);
  if (v === null || v === undefined) return "-";
  if (!Number.isFinite(v)) return Number.isNaN(v) ? "nan" : v > 0 ? "differs" : "-inf";
  if (v === 0) return "0";
  if (v < 0.005) return "<0.01";
  if (v < 10) return v.toFixed(2);
  return v < 999.5 ? String(Number(v.toPrecision(3))) : v.toExponential(1);
}
const size = (value) => {
  const v = number(value);
  return v === null || v === undefined ? -1 : Number.isNaN(v) ? Infinity : v;
};
const layerOf = (dump) => {
  if (!dump.first) return data.columns.length;
  const bug = dump.cells.findIndex((cell) => cell && data.verdicts[cell[0]] === "bug");
  return bug < 0 ? data.columns.length - 1 : bug;
};
const columnName = (column) => (typeof column === "number" ? `layer ${column}` : column);

// ---- colours ------------------------------------------------------------------------------------------------
let colours = {};
function readColours() {
  const style = getComputedStyle(document.documentElement);
  for (const name of ["low", "below", "above", "high", "page", "text"]) {
    const hex = style.getPropertyValue(`--${name}`).trim();
    colours[name] = [1, 3, 5].map((at) => parseInt(hex.slice(at, at + 2), 16));
  }
}
const across = (v) => (Math.log10(v) - LOW) / (HIGH - LOW);
function heat(value) {
  const v = number(value);
  if (v === null || v === undefined) return null;
  const at = Number.isNaN(v) ? 1 : Math.min(1, Math.max(0, v > 0 ? across(v) : 0)), limit = across(data.limit);
  const [from, to, part] = at <= limit ? ["low", "below", at / limit] : ["above", "high", (at - limit) / (1 - limit)];
  return colours[from].map((one, i) => Math.round(one + part * (colours[to][i] - one)));
}
const light = ([r, g, b]) => 0.299 * r + 0.587 * g + 0.114 * b;

// ---- one row ------------------------------------------------------------------------------------------------
function strip(dump) {
  const line = document.createElement("div");
  line.className = "strip";
  line.setAttribute("role", "img");
  line.setAttribute("aria-label", dump.first ? `first bug at ${dump.first}` : dump.line);
  const first = layerOf(dump);
  dump.cells.forEach((cell, x) => {
    const box = add(line, "i");
    box.dataset.x = x;
    if (!cell) { box.className = "none"; return; }
    const word = data.verdicts[cell[0]], colour = heat(cell[1]);
    box.className = word;
    if (colour) box.style.background = `rgb(${colour})`;
    if (word === "undetermined" && !colour) box.style.background = "var(--line)";
    if (word !== "match") {
      box.textContent = word === "bug" ? (x === first ? "1" : "×") : "?";
      if (colour) box.style.color = light(colour) > 140 ? "#000" : "#fff";
    }
  });
  return line;
}

function movedWords(moved) {
  const [comparable, worse, better, other, what, before] = moved;
  if (!comparable) return `not comparable: ${what}`;
  const parts = [worse && `${worse} worse`, better && `${better} better`, other && `${other} other`].filter(Boolean);
  const verdict = before ? `was ${before}; ` : "";
  return parts.length ? `${verdict}${parts.join(", ")}: ${what}` : "";
}

function rowOf(dump) {
  const row = document.createElement("li"), word = data.verdicts[dump.verdict];
  row.className = "row";
  row.dataset.given = dump.given;
  const name = add(row, dump.page ? "a" : "span", dump.name, "name");
  if (dump.page) name.href = dump.page;
  add(row, "span", `${SIGNS[word]} ${word}`, `word ${word}`);
  row.append(strip(dump));
  add(row, "span", dump.taps ? floors(dump.worst) : "", "worst");
  const why = dump.causes.length ? `${dump.first}: ${dump.causes.join("; ")}` : word === "match" ? "" : dump.line;
  const cause = add(row, "span", why, "cause");
  const moved = dump.moved ? movedWords(dump.moved) : "";
  if (moved) add(cause, "span", `${why ? " · " : ""}${moved}`, `source${dump.moved[1] ? " worse" : ""}`);
  cause.title = cause.textContent;
  return row;
}

function header() {
  const head = byId("head");
  for (const [text, name] of [["dump", ""], ["verdict", ""]]) add(head, "span", text, name);
  const line = add(head, "div", undefined, "strip"), count = data.columns.length;
  const wide = line.clientWidth / count, every = [1, 2, 5, 10].find((n) => n * wide > 22) || 20;
  data.columns.forEach((column, x) => {
    const end = typeof column !== "number";
    const text = end ? (wide > 40 ? column : column[0]) : column % every === 0 ? String(column) : "";
    add(line, "i", text).dataset.x = x;
  });
  add(head, "span", "floors", "worst");
  add(head, "span", "first bug and its cause", "");
}

// ---- choosing -----------------------------------------------------------------------------------------------
const ORDERS = {
  given: (a, b) => a.given - b.given,
  verdict: (a, b) => a.verdict - b.verdict || size(b.worst) - size(a.worst),
  worst: (a, b) => size(b.worst) - size(a.worst),
  layer: (a, b) => layerOf(a) - layerOf(b) || a.verdict - b.verdict,
  name: (a, b) => a.name.localeCompare(b.name, "en", { numeric: true }),
  seconds: (a, b) => b.seconds - a.seconds,
  moved: (a, b) => (b.moved ? b.moved[1] : -1) - (a.moved ? a.moved[1] : -1) || (b.moved ? b.moved[2] : -1) - (a.moved ? a.moved[2] : -1),
};
const KINDS = {
  all: () => true,
  worse: (dump) => dump.moved && dump.moved[1] > 0,
  better: (dump) => dump.moved && dump.moved[2] > 0,
  apart: (dump) => dump.moved && !dump.moved[0],
};
data.verdicts.forEach((word, i) => { KINDS[word] = (dump) => dump.verdict === i; });
const textOf = (dump) => [dump.name, dump.line, dump.first, ...dump.causes, dump.moved ? dump.moved[4] : ""].join(" ").toLowerCase();

function choose() {
  const words = byId("find").value.toLowerCase().split(/\s+/).filter(Boolean), kind = KINDS[byId("show").value];
  state.shown = dumps.filter((dump) => kind(dump) && words.every((word) => textOf(dump).includes(word)));
  state.shown.sort((a, b) => ORDERS[byId("sort").value](a, b) || a.given - b.given);
  state.count = 0;
  byId("rows").replaceChildren();
  byId("count").textContent = `${state.shown.length} of ${dumps.length}`;
  extend();
}

function extend() {
  const next = state.shown.slice(state.count, state.count + AT_ONCE);
  byId("rows").append(...next.map(rowOf));
  state.count += next.length;
  const left = state.shown.length - state.count;
  byId("more").textContent = left ? `${left} more below` : state.shown.length ? "" : "No dump is like that.";
}

function build() {
  const there = new Set(dumps.map((dump) => data.verdicts[dump.verdict]));
  for (const word of data.verdicts) if (there.has(word)) add(byId("show"), "option", word).value = word;
  if (dumps.some((dump) => dump.moved)) {
    for (const [value, text] of [["worse", "worse than the baseline"], ["better", "better than it"], ["apart", "not comparable with it"]]) {
      add(byId("show"), "option", text).value = value;
    }
    add(byId("sort"), "option", "what moved").value = "moved";
  }
  for (const v of [0.1, 1, data.limit, 10, 100, 1000]) {
    const tick = add(byId("ticks"), "span", v === 0.1 ? "≤ 0.1" : v === 1000 ? "≥ 1000" : String(v), v === data.limit ? "limit" : "");
    tick.style.left = `${100 * across(v)}%`;
  }
  byId("scale").style.setProperty("--limit", `${100 * across(data.limit)}%`);
  byId("left-out").hidden = !data.left_out;
  byId("left-out").textContent = `Cells of ${data.left_out} dumps are left out to keep the page small.`;
  for (const one of document.querySelectorAll("span.mistake")) { // a button only where there is a script to press it for
    const button = document.createElement("button");
    button.type = "button";
    button.className = "mistake";
    button.textContent = one.textContent;
    button.addEventListener("click", () => {
      byId("find").value = one.dataset.name === "unknown" ? one.textContent : one.dataset.name;
      choose();
    });
    one.replaceWith(button);
  }
}

function tell(event) {
  const box = event.target.closest(".strip i"), row = event.target.closest("#rows .row");
  if (!box || !row) return;
  const dump = dumps[row.dataset.given], x = Number(box.dataset.x), cell = dump.cells[x];
  const what = cell ? `${data.verdicts[cell[0]]}, at most ${floors(cell[1])} floors, at ${data.taps[cell[2]]}` : "not in the dump";
  byId("told").textContent = `${dump.name}, ${columnName(data.columns[x])}: ${what}`;
}

function listen() {
  for (const id of ["show", "sort"]) byId(id).addEventListener("change", choose);
  byId("find").addEventListener("input", choose);
  byId("rows").addEventListener("mouseover", tell);
  byId("rows").addEventListener("click", (event) => {
    const row = event.target.closest(".row"), link = row && row.querySelector("a.name");
    if (link && !event.target.closest("a") && !String(getSelection())) link.click();
  });
  new IntersectionObserver((entries) => {
    if (entries.some((entry) => entry.isIntersecting) && state.count < state.shown.length) extend();
  }, { rootMargin: "1500px" }).observe(byId("more"));
  const again = () => { readColours(); byId("head").replaceChildren(); header(); choose(); };
  window.matchMedia("(prefers-color-scheme: dark)").addEventListener("change", again);
  let wait = 0, width = window.innerWidth;
  window.addEventListener("resize", () => {
    clearTimeout(wait);
    wait = setTimeout(() => { if (window.innerWidth !== width) { width = window.innerWidth; again(); } }, 150);
  });
}

readColours();
build();
header();
choose();
listen();
document.documentElement.dataset.ready = "yes";
