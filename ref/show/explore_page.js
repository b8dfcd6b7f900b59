// ---- what was given -----------------------------------------------------------------------------------------
const data = JSON.parse(document.getElementById("data").textContent);
const byId = (id) => document.getElementById(id);
const T = data.ids.length, L = data.layers, N = data.heads;
const ranges = data.ranges.kinds.map((flat) => Array.from({ length: T }, (_, t) => flat.slice(2 * t, 2 * t + 2)));
const seenBy = (layer, t) => ranges[data.ranges.of[layer]][t];
const chosen = { token: T - 1, layer: L - 1, head: 0 };

async function numbers(text) {
  const bytes = Uint8Array.from(atob(text), (sign) => sign.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
  const raw = await new Response(stream).arrayBuffer();
  return data.attention.bits === 16 ? new Uint16Array(raw) : new Uint8Array(raw);
}
const packed = new Map(); // layer -> its numbers
for (const [i, layer] of data.attention.layers.entries()) packed.set(layer, await numbers(data.attention.data[i]));
const value = (x) => (data.attention.bits === 16 ? x / 65535 : (x / 255) ** 2);
const before = ranges.map((rows) => { // how many numbers of a head lie before those of each query
  const sums = [0];
  for (const [first, stop] of rows) sums.push(sums[sums.length - 1] + stop - first);
  return sums;
});

/** Probabilities of a query in a head, of all keys; null where the layer was left out. */
function row(layer, head, t) {
  if (!packed.has(layer)) return null;
  const offsets = before[data.ranges.of[layer]], [first, stop] = seenBy(layer, t), out = new Float64Array(T);
  const heads = head < N ? [head] : Array.from({ length: N }, (_, n) => n); // the last choice is their mean
  for (const n of heads) {
    const at = n * offsets[T] + offsets[t], all = packed.get(layer);
    for (let key = first; key < stop; key++) out[key] += value(all[at + key - first]) / heads.length;
  }
  return out;
}

// ---- words --------------------------------------------------------------------------------------------------
const plain = (text) => String(text).replace(/&/g, "&amp;").replace(/</g, "&lt;").replace(/>/g, "&gt;"); // Plotly reads markup
const readable = (text) => text.replaceAll("▁", " ").replaceAll("\n", "⏎").replaceAll("\t", "⇥");
const viewOf = (t) => data.views.find((view) => t >= view.first && t < view.first + view.count);
const nameOf = (t) => { const view = viewOf(t); return view ? `image ${data.views.indexOf(view)}, patch ${t - view.first}` : readable(data.texts[t]); };
const percent = (p) => (p >= 0.0995 ? `${(100 * p).toFixed(1)} %` : p >= 0.000095 ? `${(100 * p).toPrecision(2)} %` : p > 0 ? "<0.01 %" : "0 %");
const isGlobal = (layer) => data.global.includes(layer);
const kindOf = (layer) => (isGlobal(layer) ? "global" : `local, window ${data.window}`);
const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
const HEAT = 0.6; // the most of a tint that ink on it can be read through
const add = (parent, tag, text, name) => {
  const element = parent.appendChild(document.createElement(tag));
  if (text !== undefined) element.textContent = text;
  if (name) element.className = name;
  return element;
};

// ---- tokens and pictures ------------------------------------------------------------------------------------
const places = []; // the element of each token
function buildTokens() {
  const strip = byId("tokens");
  for (let t = 0; t < T; t++) {
    const view = viewOf(t);
    if (view) {
      places.push(null); // a cell of its grid, below
      if (t === view.first) add(strip, "button", `image ${data.views.indexOf(view)}`, "image").addEventListener("click", () => choose({ token: t }));
      continue;
    }
    const button = add(strip, "button", readable(data.texts[t]) || " ");
    button.title = `token ${t}, id ${data.ids[t]}`;
    places.push(button);
    if (data.texts[t].includes("\n")) add(strip, "span", "", "break");
  }
  data.views.forEach((view, number) => {
    const figure = add(byId("views"), "figure"), square = add(figure, "div", undefined, "view");
    add(square, "img").src = view.src;
    square.firstChild.alt = `image ${number}`;
    const side = Math.sqrt(view.count), grid = add(square, "div", undefined, "grid");
    grid.style.gridTemplate = `repeat(${side}, 1fr) / repeat(${side}, 1fr)`;
    for (let m = 0; m < view.count; m++) {
      const cell = add(grid, "button", undefined, "cell");
      cell.title = `token ${view.first + m}, patch ${m}`;
      places[view.first + m] = cell;
    }
    const part = view.box < 0 ? (view.photo < 0 ? "" : ", whole") : `, crop ${view.box + 1}`;
    add(figure, "figcaption", `image ${number}${part}: tokens ${view.first} to ${view.first + view.count - 1}`);
  });
  places.forEach((place, t) => { place.dataset.token = t; place.addEventListener("click", () => choose({ token: t })); });
  byId("pictures").hidden = !data.photos.length;
  for (const photo of data.photos) {
    const holder = add(byId("photos"), "div", undefined, "photo");
    holder.style.aspectRatio = `${photo.width} / ${photo.height}`;
    add(holder, "img").src = photo.src;
    holder.firstChild.alt = `picture of ${photo.width} by ${photo.height} pixels`;
    photo.boxes.forEach(([y0, x0, y1, x1], i) => {
      const box = add(holder, "div", `${i + 1}`, "box");
      box.style.cssText = `top:${(100 * y0) / photo.height}%;left:${(100 * x0) / photo.width}%;height:${(100 * (y1 - y0)) / photo.height}%;width:${(100 * (x1 - x0)) / photo.width}%`;
    });
  }
}

function showAttention() {
  const { token, layer, head } = chosen, probs = row(layer, head, token), [first, stop] = seenBy(layer, token);
  places.forEach((place, t) => {
    place.classList.toggle("query", t === token);
    place.classList.toggle("unseen", t < first || t >= stop);
    place.style.setProperty("--heat-here", probs ? (HEAT * Math.sqrt(probs[t])).toFixed(3) : 0);
    place.tabIndex = t === token ? 0 : -1; // one stop of the tab key; arrows walk
    if (t === token) place.setAttribute("aria-current", "true");
    else place.removeAttribute("aria-current");
  });
  const who = head < N ? `head ${head}` : "mean of heads";
  byId("attention-note").textContent = probs
    ? `Layer ${layer} (${kindOf(layer)}), ${who}: ${nameOf(token).trim() || "this token"} sees tokens ${first} to ${stop - 1}.`
    : `Attention of layer ${layer} is left out to keep the page small; kept: ${data.attention.layers.join(", ")}.`;
  const table = byId("attention");
  table.replaceChildren();
  if (!probs) return;
  const best = [...probs.keys()].filter((t) => probs[t] > 0).sort((a, b) => probs[b] - probs[a]).slice(0, 8);
  for (const t of best) bars(table, `${t}`, nameOf(t), probs[t]);
}

function bars(table, head, text, p) {
  const line = add(table, "tr");
  add(line, "th", head);
  add(line, "td", text);
  add(line, "td", percent(p), "number").dataset.p = p;
  add(add(line, "td", undefined, "bar"), "div").style.width = `${100 * p}%`;
  return line;
}

// ---- charts -------------------------------------------------------------------------------------------------
const quiet = { displayModeBar: false, responsive: false };
const clear = () => ({ paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", dragmode: false, font: { size: 11, color: colour("soft") } });

// Viridis over the root of p, so that small shares are seen
const VIRIDIS = ["#440154", "#482878", "#3e4989", "#31688e", "#26828e", "#1f9e89", "#35b779", "#6ece58", "#b5de2b", "#dce319", "#fde725"];
const scale = VIRIDIS.map((tint, i) => [(i / 10) ** 2, tint]);
let drawn = ""; // which layer and head

function drawMatrix() {
  const div = byId("matrix"), there = packed.has(chosen.layer), now = [chosen.layer, chosen.head, div.clientWidth, colour("soft")].join();
  div.hidden = !there;
  if (!there) return;
  const shapes = [{ type: "rect", xref: "paper", x0: 0, x1: 1, y0: chosen.token - 0.5, y1: chosen.token + 0.5, line: { color: colour("select"), width: 1.5 } }];
  if (now === drawn) { Plotly.relayout(div, { shapes }); return; }
  drawn = now;
  const z = Array.from({ length: T }, (_, t) => {
    const [a, b] = seenBy(chosen.layer, t);
    return Array.from(row(chosen.layer, chosen.head, t), (p, key) => (key >= a && key < b ? p : null));
  });
  const size = Math.min(div.clientWidth, 640), named = T <= size / 26; // words where they fit, else numbers
  const words = named ? data.ids.map((_, t) => nameOf(t).trim() || "␣").map((word) => (word.length > 9 ? `${word.slice(0, 8)}…` : word)) : [];
  const ticks = named ? { tickvals: words.map((_, t) => t), ticktext: words.map(plain) } : { nticks: 8 };
  const room = 7 * Math.max(0, ...words.map((word) => word.length)), axis = { fixedrange: true, showgrid: false, zeroline: false, ...ticks };
  Plotly.react(div, [{
    type: "heatmap", z, zmin: 0, zmax: 1, hoverongaps: false, colorscale: scale, hovertemplate: "query %{y}, key %{x}: %{z:.2%}<extra></extra>",
    colorbar: { thickness: 10, tickvals: [0, 0.25, 0.5, 0.75, 1], title: { text: "probability", side: "right" } },
  }], {
    ...clear(), width: size, height: size * 0.9, margin: { l: 34 + (room || 14), r: 4, t: 6, b: 24 + (room || 10) }, shapes,
    xaxis: { ...axis, tickangle: named ? -90 : 0, title: { text: "key", standoff: 4 } }, yaxis: { ...axis, autorange: "reversed", title: { text: "query", standoff: 2 } },
  }, quiet);
  if (!div.dataset.listens) div.on("plotly_click", (event) => choose({ token: event.points[0].y }));
  div.dataset.listens = "yes";
}

function drawNorms() {
  const t = chosen.token, { stream, attn, ffn } = data.norms, layers = attn.map((_, i) => i);
  const line = (name, y, x, tint) => ({ name, x, y, mode: "lines+markers", marker: { size: 5 }, line: { color: tint }, hovertemplate: `${name} %{y:.4g}, layer %{x}<extra></extra>` });
  const here = { type: "line", yref: "paper", y0: 0, y1: 1, x0: chosen.layer, x1: chosen.layer, line: { color: colour("select"), width: 1, dash: "dot" } };
  const marks = data.global.map((i) => ({ type: "rect", yref: "paper", y0: 0, y1: 1, x0: i - 0.3, x1: i + 0.3, line: { width: 0 }, fillcolor: "rgba(128,128,128,0.18)" }));
  Plotly.react(byId("norms"), [
    line("stream", stream.map((one) => one[t]), stream.map((_, i) => i), `rgb(${colour("heat")})`),
    line("attention adds", attn.map((one) => one[t]), layers, colour("select")),
    line("feed-forward adds", ffn.map((one) => one[t]), layers, colour("second")),
  ], {
    ...clear(), height: 280, autosize: true, margin: { l: 46, r: 8, t: 6, b: 34 }, shapes: [...marks, here], legend: { orientation: "h", y: 1.12 },
    xaxis: { fixedrange: true, gridcolor: colour("line"), title: { text: "layer", standoff: 4 }, zeroline: false, dtick: Math.ceil(L / 12) },
    yaxis: { type: "log", fixedrange: true, gridcolor: colour("line"), exponentformat: "power", dtick: 1 },
  }, quiet);
}

// ---- predictions --------------------------------------------------------------------------------------------
function showPredictions() {
  const t = chosen.token, table = byId("next"), text = (id) => readable(data.pieces[id]);
  byId("next-title").textContent = `Next token, after ${nameOf(t).trim() || "this one"}`;
  table.replaceChildren();
  data.next.ids[t].forEach((id, i) => bars(table, "", text(id), data.next.probs[t][i]).title = `id ${id}`);
  const lens = byId("lens");
  lens.replaceChildren();
  data.lens.ids.forEach((depth, d) => {
    const line = add(lens, "tr", undefined, d === chosen.layer + 1 ? "here" : "");
    add(line, "th", d ? `${d - 1}` : "embed");
    depth[t].forEach((id, i) => {
      const p = data.lens.probs[d][t][i], cell = add(line, "td");
      cell.style.setProperty("--heat-here", (HEAT * Math.sqrt(p)).toFixed(3));
      cell.title = `${text(id)} ${percent(p)}, id ${id}`;
      cell.dataset.p = p;
      add(cell, "small", `${percent(p)} `);
      cell.append(text(id));
    });
    line.addEventListener("click", () => choose({ layer: Math.max(0, d - 1) }));
  });
}

// ---- choosing -----------------------------------------------------------------------------------------------
function choose(change) {
  Object.assign(chosen, change);
  byId("token").value = chosen.token;
  byId("layer").value = chosen.layer;
  byId("head").value = chosen.head;
  byId("token-name").textContent = `${chosen.token}: ${nameOf(chosen.token).trim()}`;
  byId("layer-name").textContent = `${chosen.layer}, ${kindOf(chosen.layer)}`;
  draw();
}
function draw() { showAttention(); showPredictions(); drawMatrix(); drawNorms(); }

const clamp = (x, most) => Math.max(0, Math.min(most, x));
const KEYS = {
  ArrowLeft: () => ({ token: clamp(chosen.token - 1, T - 1) }), ArrowRight: () => ({ token: clamp(chosen.token + 1, T - 1) }),
  ArrowUp: () => ({ layer: clamp(chosen.layer + 1, L - 1) }), ArrowDown: () => ({ layer: clamp(chosen.layer - 1, L - 1) }),
  h: () => ({ head: (chosen.head + 1) % (N + 1) }),
};

byId("model").textContent = `${data.weights}, ${data.dtype}: ${T} tokens, ${L} layers, ${N} heads on ${data.kv_heads} of keys; global layers ${data.global.join(", ")}, the others see ${data.window} tokens.`;
byId("token").max = T - 1;
byId("layer").max = L - 1;
for (let n = 0; n <= N; n++) add(byId("head"), "option", n < N ? `${n}` : "mean").value = n;
buildTokens();
choose({});
byId("token").addEventListener("input", (event) => choose({ token: Number(event.target.value) }));
byId("layer").addEventListener("input", (event) => choose({ layer: Number(event.target.value) }));
byId("head").addEventListener("change", (event) => choose({ head: Number(event.target.value) }));
document.addEventListener("keydown", (event) => { // from the first moment on: where nothing has the focus, keys walk too
  const change = KEYS[event.key], here = event.target === document.body || byId("reading").contains(event.target);
  if (!change || !here || event.ctrlKey || event.altKey || event.metaKey) return;
  event.preventDefault();
  choose(change());
  places[chosen.token].focus({ preventScroll: true });
  places[chosen.token].scrollIntoView({ block: "nearest" });
});
window.matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
let wait = 0, width = window.innerWidth;
window.addEventListener("resize", () => {
  clearTimeout(wait);
  wait = setTimeout(() => { if (window.innerWidth !== width) { width = window.innerWidth; draw(); } }, 150);
});
document.documentElement.dataset.ready = "yes";
