"use strict";
(async () => {
  // ---- what was given -----------------------------------------------------------------------------------------
  const data = JSON.parse(document.getElementById("data").textContent);
  const byId = (id) => document.getElementById(id);
  const T = data.ids.length, L = data.layers, N = data.heads;
  const ranges = data.ranges.kinds.map((flat) => Array.from({ length: T }, (_, t) => flat.slice(2 * t, 2 * t + 2)));
  const seenBy = (layer, t) => ranges[data.ranges.of[layer]][t];
  const chosen = { token: T - 1, layer: L - 1, head: 0 };

  async function numbers() {
    if (!data.attention.data) return [];
    const bytes = Uint8Array.from(atob(data.attention.data), (sign) => sign.charCodeAt(0));
    const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
    const raw = await new Response(stream).arrayBuffer();
    return data.attention.bits === 16 ? new Uint16Array(raw) : new Uint8Array(raw);
  }
  const packed = await numbers();
  const value = (x) => (data.attention.bits === 16 ? x / 65535 : (x / 255) ** 2);
  const starts = new Map(); // layer -> where its first number lies
  const before = ranges.map((rows) => rows.reduce((sum, [a, b]) => [...sum, sum[sum.length - 1] + b - a], [0]));
  data.attention.layers.reduce((at, layer) => {
    starts.set(layer, at);
    return at + N * before[data.ranges.of[layer]][T];
  }, 0);

  /** Probabilities of a query in a head, of all keys; null where the layer was left out. */
  function row(layer, head, t) {
    if (!starts.has(layer)) return null;
    const offsets = before[data.ranges.of[layer]], [first, stop] = seenBy(layer, t), out = new Float64Array(T);
    const heads = head < N ? [head] : Array.from({ length: N }, (_, n) => n); // the last choice is their mean
    for (const n of heads) {
      const at = starts.get(layer) + n * offsets[T] + offsets[t];
      for (let key = first; key < stop; key++) out[key] += value(packed[at + key - first]) / heads.length;
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
        cell.tabIndex = -1;
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
      place.style.setProperty("--heat-here", probs ? Math.sqrt(probs[t]).toFixed(3) : 0);
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

  function drawMatrix() {
    const div = byId("matrix"), z = Array.from({ length: T }, (_, t) => row(chosen.layer, chosen.head, t));
    div.hidden = !z[0];
    if (!z[0]) return;
    const shown = z.map((line, t) => Array.from(line, (p, key) => { const [a, b] = seenBy(chosen.layer, t); return key >= a && key < b ? Math.sqrt(p) : null; }));
    const size = Math.min(div.clientWidth, 640), axis = { fixedrange: true, showgrid: false, zeroline: false, nticks: 8 };
    Plotly.react(div, [{
      type: "heatmap", z: shown, zmin: 0, zmax: 1, hoverongaps: false, hoverinfo: "text", colorscale: "Viridis",
      hovertext: z.map((line, t) => Array.from(line, (p, key) => `${t} ${plain(nameOf(t))} → ${key} ${plain(nameOf(key))}: ${plain(percent(p))}`)),
      colorbar: { thickness: 10, tickvals: [0, 0.05, 0.25, 0.5, 1].map(Math.sqrt), ticktext: ["0", ".05", ".25", ".5", "1"] },
    }], {
      ...clear(), width: size, height: size * 0.9, margin: { l: 48, r: 4, t: 6, b: 34 },
      xaxis: { ...axis, title: { text: "key", standoff: 4 } }, yaxis: { ...axis, autorange: "reversed", title: { text: "query", standoff: 2 } },
      shapes: [{ type: "rect", xref: "paper", x0: 0, x1: 1, y0: chosen.token - 0.5, y1: chosen.token + 0.5, line: { color: colour("select"), width: 1.5 } }],
    }, quiet);
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
        cell.style.setProperty("--heat-here", (0.8 * Math.sqrt(p)).toFixed(3));
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
  byId("matrix").on("plotly_click", (event) => choose({ token: event.points[0].y }));
  byId("token").addEventListener("input", (event) => choose({ token: Number(event.target.value) }));
  byId("layer").addEventListener("input", (event) => choose({ layer: Number(event.target.value) }));
  byId("head").addEventListener("change", (event) => choose({ head: Number(event.target.value) }));
  document.addEventListener("keydown", (event) => {
    const change = KEYS[event.key];
    if (!change || event.ctrlKey || event.altKey || event.metaKey || /^(INPUT|SELECT)$/.test(event.target.tagName)) return;
    event.preventDefault();
    choose(change());
  });
  window.matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
  let wait = 0, width = window.innerWidth;
  window.addEventListener("resize", () => {
    clearTimeout(wait);
    wait = setTimeout(() => { if (window.innerWidth !== width) { width = window.innerWidth; draw(); } }, 150);
  });
  document.documentElement.dataset.ready = "yes";
})();
