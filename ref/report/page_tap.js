// ---- one tap ------------------------------------------------------------------------------------------------
const METRICS = {
  max_abs: ["largest absolute error", relative], ulp: ["in ULP", (v) => String(number(v))], cosine: ["cosine", String],
  slope: ["slope", String], worst_token: ["worst token", String], worst_channel: ["worst channel", String],
  kl: ["KL divergence", relative], top1: ["same top 1", String], top5: ["of the top 5", String],
};

function showNumbers(row) {
  const table = byId("numbers");
  table.replaceChildren();
  const head = add(add(table, "thead"), "tr");
  const equal = /\.(visible|positions)$/.test(row.tap); // integers
  for (const name of ["", equal ? "share that differs" : "relative L2", "noise floor", "in floors"]) add(head, "th", name);
  const body = add(table, "tbody");
  found.forEach((rows, i) => {
    const one = rows.get(keyOf(row));
    if (!one) return;
    const who = found.length > 1 ? `${["first", "second"][i]} dump, ` : "";
    for (const [name, distance, floor, ratio] of [["local", "local", "local_floor", "local_ratio"], ["inherited", "inherited", "floor", "inherited_ratio"]]) {
      const line = add(body, "tr");
      line.dataset.error = `${i}-${name}`;
      add(line, "th", who + name);
      add(line, "td", relative(one[distance]));
      add(line, "td", number(one[floor]) === 0 ? "exact" : relative(one[floor]));
      add(line, "td", floors(one[ratio]), number(one[ratio]) > data.limit ? "bug" : "");
    }
  });
  const list = byId("metrics");
  list.replaceChildren();
  const metric = (name, text) => { add(list, "dt", name); add(list, "dd", text); };
  for (const [key, value] of Object.entries(row.metrics || {})) {
    if (value !== null && Object.hasOwn(METRICS, key)) metric(METRICS[key][0], METRICS[key][1](value));
  }
  if (row.nonfinite) metric("not finite", `${row.nonfinite.count} values, first at token ${row.nonfinite.token}, channel ${row.nonfinite.channel}; the truth there is ${relative(row.nonfinite.truth)}`);
  if (row.ranks) metric("floors of each rank", row.ranks);
  if (row.span && row.span.length) metric("recomputed on the way", `${row.span.join(", ")}: the dump lacks them`);
}

/** Where bin i of n begins, of `total` things split as evenly as they can be. */
const start = (i, n, total) => i * Math.floor(total / n) + Math.min(i, total % n);

function drawProfile(id, noun, values, step, bins, total) {
  const v = values.map(number), finite = v.filter((x) => Number.isFinite(x) && x > 0);
  const top = Math.max(3, ...finite) * 1.6, bottom = Math.max(1e-3, Math.min(0.1, ...finite) / 1.5);
  const from = (i) => start(Math.min(bins, i * step), bins, total);
  const name = (i) => (from(i + 1) - from(i) > 1 ? `${noun}s ${from(i)} to ${from(i + 1) - 1}: at most` : `${noun} ${from(i)}:`);
  const trace = {
    type: "bar", x: v.map((_, i) => (from(i) + from(i + 1) - 1) / 2), width: v.map((_, i) => (from(i + 1) - from(i)) * (v.length > 100 ? 1 : 0.85)),
    y: v.map((x) => (Number.isFinite(x) ? (x > 0 ? x : null) : top)), hoverinfo: "text", textposition: "none",
    hovertext: v.map((x, i) => `${name(i)} ${inFloors(x)}`),
    marker: { color: v.map((x) => (x <= data.limit ? colour("below") : colour("above"))), line: { width: 0 } },
  };
  const line = (y, dash) => ({ type: "line", xref: "paper", x0: 0, x1: 1, y0: y, y1: y, line: { color: colour("soft"), width: 1, dash } });
  const axis = { tickfont: font(11), gridcolor: colour("line"), zeroline: false };
  const layout = {
    height: 190, autosize: true, margin: { l: 44, r: 8, t: 8, b: 34 }, paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", bargap: 0,
    xaxis: { ...axis, title: { text: noun, font: font(11), standoff: 4 }, showgrid: false, fixedrange: true, range: [-0.5, Math.max(total, 4) - 0.5], ...(total <= 8 ? { dtick: 1 } : { nticks: 8 }) },
    yaxis: { ...axis, type: "log", fixedrange: true, range: [Math.log10(bottom), Math.log10(top)], dtick: top / bottom < 2e4 ? 1 : undefined, exponentformat: "power" },
    shapes: [line(1, "dot"), line(data.limit, "solid")], dragmode: false,
  };
  const marks = v.map((x, i) => [x, i]).filter(([x]) => x !== null && !Number.isFinite(x)).slice(0, 20);
  layout.annotations = marks.map(([x, i]) => ({ x: trace.x[i], y: Math.log10(top), text: Number.isNaN(x) ? "nan" : "≠", showarrow: false, yanchor: "top", font: font(10) }));
  byId(id).style.width = "100%";
  Plotly.react(byId(id), [trace], layout, quiet);
}

function showProfiles(row) {
  const shape = profiles.get(keyOf(row));
  const heads = /\.(scores|probs)$/.test(row.tap), notes = [];
  const sides = [["tokens", "token", 0], ["channels", heads ? "head" : "channel", 1]];
  for (const [id, noun, i] of sides) {
    const there = Boolean(shape && shape[i].length), bins = there ? shape[3][i] : 0;
    byId(`${id}-title`).hidden = byId(id).hidden = !there;
    byId(`${id}-title`).textContent = `Error of each ${noun}, in floors of that ${noun}`;
    if (!there) { Plotly.purge(byId(id)); continue; }
    const total = Math.max(bins, shape[4][i]); // of more than 512 a bar is the largest of neighbours
    if (total > shape[i].length) notes.push(`There are ${total} ${noun}s: a bar is the largest of neighbours.`);
    drawProfile(id, noun, shape[i], shape[2], bins, total);
  }
  if (shape) notes.push(`Lines: 1 floor and ${data.limit} floors. The verdict goes by the whole tap; single ones scatter more.`);
  else if (data.saved) notes.push("A saved report holds no errors of tokens and channels: compare --html draws them.");
  else notes.push(shape === null ? "Its tokens and channels are left out to keep the page small." : "It has no errors of tokens and channels.");
  byId("bins").textContent = notes.join(" ");
}

function showTap() {
  const row = chosen.row;
  if (!row) return;
  byId("tap").textContent = row.tap;
  const about = byId("about");
  about.replaceChildren();
  add(about, "span", row.verdict, `badge ${row.verdict}`);
  add(about, "span", [`pass ${row.pass}`, row.dtype, inFloors(row.local_ratio), row.why].filter(Boolean).join(", "));
  showNumbers(row);
  if (chosen.dump === 0) showProfiles(row);
  else {
    for (const id of ["tokens", "channels"]) byId(`${id}-title`).hidden = byId(id).hidden = true;
    byId("bins").textContent = "Tokens and channels are kept of the first dump only.";
  }
}

// ---- the diagnosis ------------------------------------------------------------------------------------------
function drawCoefficients() {
  const rows = data.diagnosis.filter((row) => Number.isFinite(number(row.coefficient))).slice(0, 30), div = byId("coefficients");
  byId("diagnosis-hint").hidden = div.hidden = !rows.length;
  if (!rows.length) return;
  const phone = div.clientWidth < 500, least = -0.75, most = 1.75;
  const clear = (row) => row.verdict === "cleared" || row.verdict === "undetermined";
  const at = (row) => Math.min(most, Math.max(least, row.coefficient));
  const inside = (row) => row.coefficient === at(row);
  const trace = {
    type: "scatter", mode: "markers", x: rows.map(at), y: rows.map((_, i) => i), hoverinfo: "text",
    hovertext: rows.map((row) => `${plain(row.mutant)}: ${row.coefficient} ± ${row.stderr}, ${floors(row.left)} floors left: ${row.verdict}`),
    error_x: { type: "data", array: rows.map((row) => (inside(row) ? Math.min(9, 2 * (number(row.stderr) || 0)) : 0)), color: colour("soft"), thickness: 1.5, width: 4 },
    marker: {
      size: 10, color: rows.map((row) => (clear(row) ? colour("below") : colour("above"))), line: { color: colour("text"), width: 1 },
      symbol: rows.map((row) => (!inside(row) ? (row.coefficient > 1 ? "triangle-right" : "triangle-left") : row.verdict === "cleared" ? "circle-open" : clear(row) ? "square-open" : "diamond")),
    },
  };
  const tied = rows.map((row, i) => [row, i]).filter(([row]) => row.verdict === "tied").map(([, i]) => i);
  const upright = (x) => ({ type: "line", x0: x, x1: x, yref: "paper", y0: 0, y1: 1, line: { color: colour("text"), width: 1, dash: "dot" } });
  const shapes = [upright(0), upright(1)], annotations = [];
  if (tied.length > 1) {
    shapes.push({ type: "rect", xref: "paper", x0: 0, x1: 1, y0: Math.min(...tied) - 0.5, y1: Math.max(...tied) + 0.5, fillcolor: colour("above"), opacity: 0.15, line: { width: 0 }, layer: "below" });
    if (!phone) annotations.push({ xref: "paper", x: 0.005, xanchor: "left", y: Math.min(...tied) - 0.45, yanchor: "top", text: "tied: this input cannot tell them apart", showarrow: false, font: font(11) });
  }
  const label = (row) => plain(row.mutant.length > 34 ? `${row.mutant.slice(0, 33)}…` : row.mutant);
  if (phone) rows.forEach((row, i) => annotations.push({ xref: "paper", x: 0, xanchor: "left", y: i - 0.42, yanchor: "top", text: label(row), showarrow: false, font: font(11) }));
  const tall = phone ? 42 : 26, axis = { zeroline: false, fixedrange: true, tickfont: font(11), gridcolor: colour("line") };
  Plotly.react(div, [trace], {
    height: 64 + tall * rows.length, autosize: true, margin: { l: phone ? 8 : 10, r: 12, t: 30, b: 34 }, showlegend: false, dragmode: false,
    paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", shapes, annotations,
    xaxis: { ...axis, range: [least - 0.1, most + 0.1], tickvals: [-0.5, 0, 0.5, 1, 1.5], title: { text: "coefficient", font: font(11), standoff: 4 } },
    yaxis: { ...axis, range: [rows.length - 0.5, -0.5], tickvals: rows.map((_, i) => i), ticktext: rows.map(label), showticklabels: !phone, automargin: true, showgrid: false },
  }, quiet);
}

// ---- choosing -----------------------------------------------------------------------------------------------
function choose(row) {
  chosen.row = row;
  for (const tower of towers) Plotly.relayout(tower.div, { shapes: outline(tower) });
  showTap();
}
function drawMaps() { towers.forEach(drawMap); }
function drawAll() { drawMaps(); showTap(); drawCoefficients(); }

function walk(tower, dx, dy) {
  let y = -1, x = -1;
  tower.cells.forEach((line, i) => line.forEach((row, j) => { if (row && chosen.row && keyOf(row) === keyOf(chosen.row)) [y, x] = [i, j]; }));
  if (y < 0) [y, x, dx, dy] = [0, -1, 1, 0]; // the selection is in the other map
  for (let i = y + dy, j = x + dx; i >= 0 && i < tower.cells.length; i += dy, j += dx) {
    if (j < 0 || j >= tower.columns.length) {
      if (dy || x >= 0) return;
      i += 1; j = 0;
      if (i >= tower.cells.length) return;
    }
    if (tower.cells[i][j]) return choose(tower.cells[i][j]);
  }
}

function jump(by) {
  const bad = dumps[chosen.dump].filter((row) => row.verdict !== "match");
  if (!bad.length) return;
  const here = bad.findIndex((row) => chosen.row && keyOf(row) === keyOf(chosen.row));
  const row = bad[here < 0 ? 0 : (here + by + bad.length) % bad.length];
  if (chosen.pass !== "all" && chosen.pass !== row.pass) {
    chosen.pass = row.pass;
    byId("pass").value = String(row.pass);
    drawMaps();
  }
  choose(row);
}

function build() {
  const numbers = [...new Set(dumps.flat().map((row) => row.pass))].sort((a, b) => a - b);
  const bugs = (pass) => dumps[0].filter((row) => row.pass === pass && row.verdict === "bug").length;
  if (numbers.length > 1) add(byId("pass"), "option", "worst of all passes").value = "all";
  for (const pass of numbers) {
    const one = data.passes[pass] || {}, after = one.cached ? ` after ${one.cached}` : "";
    const tail = bugs(pass) ? `, bugs: ${bugs(pass)}` : "";
    add(byId("pass"), "option", `${pass}: ${one.ids} ${one.ids === 1 ? "token" : "tokens"}${after}${tail}`).value = String(pass);
  }
  chosen.pass = data.first ? data.first.pass : numbers.length === 1 ? numbers[0] : "all";
  byId("pass").value = String(chosen.pass);
  data.names.forEach((name, i) => { add(byId("dump"), "option", `${["first", "second"][i]}: ${name}`).value = String(i); });
  byId("dump-label").hidden = dumps.length < 2;
  byId("previous").parentElement.hidden = !dumps.flat().some((row) => row.verdict !== "match");
  document.querySelector("main").classList.toggle("wide", towers.some((tower) => tower.columns.length > 40));
  if (data.passes_left_out) add(byId("maps"), "p", `${data.passes_left_out} passes are left out to keep the page small.`, "hint");
  byId("scale").style.setProperty("--limit", `${100 * across(data.limit)}%`);
  for (const v of [0.1, 1, data.limit, 10, 100, 1000]) {
    const tick = add(byId("ticks"), "span", v === 0.1 ? "≤ 0.1" : v === 1000 ? "≥ 1000" : String(v), v === data.limit ? "limit" : "");
    tick.style.left = `${100 * across(v)}%`;
  }
  for (const tower of towers) {
    if (towers.length > 1) add(byId("map-list"), "h3", tower.name === "text" ? "Text model" : "Vision tower and projector", "map-title");
    tower.div = add(byId("map-list"), "div", undefined, "map");
    tower.div.id = `map-${tower.name}`;
    tower.div.tabIndex = 0;
    tower.div.setAttribute("role", "group");
    tower.div.setAttribute("aria-label", `heat map of ${tower.name} taps; arrow keys move from cell to cell`);
  }
}

function listen() {
  const STEPS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
  for (const tower of towers) {
    tower.div.on("plotly_click", (event) => {
      const row = (tower.cells[event.points[0].y] || [])[event.points[0].x];
      if (!row) return;
      choose(row);
      if (window.innerWidth < 1100) byId("detail").scrollIntoView({ behavior: "smooth", block: "start" });
    });
    tower.div.addEventListener("keydown", (event) => {
      const step = STEPS[event.key];
      if (!step || event.ctrlKey || event.altKey || event.metaKey) return;
      event.preventDefault();
      walk(tower, ...step);
    });
  }
  byId("error").addEventListener("change", (event) => { chosen.error = event.target.value; drawMaps(); });
  byId("pass").addEventListener("change", (event) => {
    chosen.pass = event.target.value === "all" ? "all" : Number(event.target.value);
    drawMaps();
    const same = chosen.row && found[chosen.dump].get(`${chosen.pass}|${chosen.row.tap}`);
    if (same) choose(same);
  });
  byId("dump").addEventListener("change", (event) => {
    chosen.dump = Number(event.target.value);
    drawMaps();
    const same = chosen.row && found[chosen.dump].get(keyOf(chosen.row));
    if (same) choose(same);
  });
  byId("previous").addEventListener("click", () => jump(-1));
  byId("next").addEventListener("click", () => jump(1));
  window.matchMedia("(prefers-color-scheme: dark)").addEventListener("change", drawAll);
  let wait = 0, width = window.innerWidth;
  window.addEventListener("resize", () => {
    clearTimeout(wait);
    wait = setTimeout(() => { if (window.innerWidth !== width) { width = window.innerWidth; drawAll(); } }, 150);
  });
}

build();
drawMaps();
listen();
const first = data.first && found[0].get(`${data.first.pass}|${data.first.tap}`);
const worst = [...dumps[0]].sort((a, b) => worse(b, a))[0];
if (first || worst) choose(first || worst);
drawCoefficients();
document.documentElement.dataset.ready = "yes";
