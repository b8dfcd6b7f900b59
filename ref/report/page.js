// ---- what was given -----------------------------------------------------------------------------------------
const data = JSON.parse(document.getElementById("data").textContent);
const byId = (id) => document.getElementById(id);
const WORDS = { inf: Infinity, "-inf": -Infinity, nan: NaN };
const number = (value) => (typeof value === "string" ? WORDS[value] : value); // null stays: not measured
const dumps = data.dumps.map((list) => list.map((values) => Object.fromEntries(data.row.map((k, i) => [k, values[i]]))));
const keyOf = (row) => `${row.pass}|${row.tap}`;
const found = dumps.map((list) => new Map(list.map((row) => [keyOf(row), row])));
const profiles = new Map(dumps[0].map((row, i) => [keyOf(row), data.profiles[i]]));
const chosen = { error: "local_ratio", pass: "all", dump: 0, row: null };
if (dumps[0].filter((row) => row.local_ratio === null).length > dumps[0].length / 2) chosen.error = byId("error").value = "inherited_ratio"; // a small dump
const LOW = -1, HIGH = 3; // of the colours: log10 of a tenth of a floor and of a thousand floors

// Plotly reads markup in texts; a name must stay a name
const plain = (text) => String(text).replace(/&/g, "&amp;").replace(/</g, "&lt;").replace(/>/g, "&gt;");
const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
const add = (parent, tag, text, name) => {
  const element = parent.appendChild(document.createElement(tag));
  if (text !== undefined) element.textContent = text;
  if (name) element.className = name;
  return element;
};

function floors(value) {
  const v = number(value);
  if (v === null || v === undefined) return "-";
  if (!Number.isFinite(v)) return Number.isNaN(v) ? "nan" : v > 0 ? "differs" : "-inf"; // of what has to be equal
  if (v === 0) return "0";
  if (v < 0.005) return "<0.01";
  if (v < 10) return v.toFixed(2);
  return v < 999.5 ? String(Number(v.toPrecision(3))) : v.toExponential(1);
}
const inFloors = (value) => (number(value) === Infinity ? "differs" : `${floors(value)} floors`);
function relative(value) {
  const v = number(value);
  if (v === null || v === undefined) return "-";
  return Number.isFinite(v) && v !== 0 ? v.toExponential(2) : String(v);
}

// ---- heat maps ----------------------------------------------------------------------------------------------
const shown = (group) => group.replace(/^(text|vision)\.(layer\.\*\.)?/, "");
const towers = ["text", "vision"].map((name) => {
  const mine = (row) => (data.groups[row.group].startsWith("vision.") ? "vision" : "text") === name;
  const rows = dumps.flat().filter(mine);
  const groups = [...new Set(rows.map((row) => row.group))].sort((a, b) => a - b);
  const layers = [...new Set(rows.map((row) => row.layer).filter((l) => l !== null))].sort((a, b) => a - b);
  const inside = new Set(rows.filter((row) => row.layer !== null).map((row) => row.group));
  const firstInside = groups.findIndex((group) => inside.has(group));
  const before = groups.slice(0, Math.max(0, firstInside));
  const after = groups.filter((group) => !inside.has(group) && !before.includes(group));
  const columns = [...(before.length ? ["start"] : []), ...layers, ...(after.length ? ["end"] : [])];
  const columnOf = (row) => columns.indexOf(row.layer !== null ? row.layer : before.includes(row.group) ? "start" : "end");
  return { name, mine, groups, columns, columnOf, place: new Map(groups.map((group, i) => [group, i])), cells: [], div: null };
}).filter((tower) => tower.groups.length);

const size = (row) => {
  const v = number(row[chosen.error]);
  return v === null || v === undefined ? -1 : Number.isNaN(v) ? Infinity : v;
};
const badness = { match: 0, undetermined: 1, bug: 2 };
const worse = (a, b) => badness[a.verdict] - badness[b.verdict] || size(a) - size(b);
const isFirst = (row) => chosen.dump === 0 && data.first && row.tap === data.first.tap && row.pass === data.first.pass;
const mark = (row) => (isFirst(row) ? "<b>1</b>" : row.verdict === "bug" ? "×" : row.verdict === "undetermined" ? "?" : "");

function collect(tower) {
  tower.cells = tower.groups.map(() => tower.columns.map(() => null));
  for (const row of dumps[chosen.dump]) {
    if (!tower.mine(row) || (chosen.pass !== "all" && row.pass !== chosen.pass)) continue;
    const y = tower.place.get(row.group), x = tower.columnOf(row), there = tower.cells[y][x];
    if (!there || isFirst(row) || (!isFirst(there) && worse(row, there) > 0)) tower.cells[y][x] = row;
  }
}

const told = (row) => {
  const lines = [row.tap, `pass ${row.pass}: ${row.verdict}${row.why ? `: ${row.why}` : ""}`];
  lines.push(`local ${inFloors(row.local_ratio)}, inherited ${inFloors(row.inherited_ratio)}`);
  return lines.map(plain).join("<br>");
};
const heat = (row) => {
  const v = row && number(row[chosen.error]);
  if (v === null || v === undefined) return null;
  return Number.isNaN(v) ? HIGH : Math.min(HIGH, Math.max(LOW, v > 0 ? Math.log10(v) : LOW));
};
const across = (v) => (Math.log10(v) - LOW) / (HIGH - LOW);
const scale = () => [[0, colour("low")], [across(data.limit), colour("below")], [across(data.limit), colour("above")], [1, colour("high")]];
const font = (px) => ({ family: "system-ui, DejaVu Sans, sans-serif", size: px, color: colour("text") });
const quiet = { displayModeBar: false, responsive: false };

function outline(tower) {
  for (let y = 0; y < tower.cells.length; y++) {
    const x = tower.cells[y].findIndex((row) => row && chosen.row && keyOf(row) === keyOf(chosen.row));
    if (x >= 0) {
      const line = { color: colour("select"), width: 2.5 };
      return [{ type: "rect", x0: x - 0.5, x1: x + 0.5, y0: y - 0.5, y1: y + 0.5, line, fillcolor: "rgba(0,0,0,0)" }];
    }
  }
  return [];
}

function drawMap(tower) {
  collect(tower);
  const labels = tower.groups.map((group) => plain(shown(data.groups[group]).slice(0, 28)));
  const phone = tower.div.clientWidth < 500, px = phone ? 10 : 11, count = tower.columns.length;
  const left = 8 + px * 0.6 * Math.max(...labels.map((label) => label.length));
  const width = Math.max(12, Math.min(40, (tower.div.clientWidth - left - 6) / count)), height = 18;
  const marks = tower.cells.map((line) => line.map((row) => (row ? mark(row) : "")));
  const trace = {
    type: "heatmap", z: tower.cells.map((line) => line.map(heat)), text: marks, texttemplate: "%{text}",
    hovertext: tower.cells.map((line) => line.map((row) => (row ? told(row) : ""))), hoverinfo: "text", hoverongaps: false,
    zmin: LOW, zmax: HIGH, colorscale: scale(), xgap: 1, ygap: 1, textfont: { size: Math.min(14, width) }, showscale: false,
  };
  const every = width < 14 ? 4 : width < 24 ? 2 : 1;
  const ticks = tower.columns.map((_, i) => i).filter((i) => every === 1 || tower.columns[i] % every === 0);
  const axis = { fixedrange: true, showgrid: false, zeroline: false, ticks: "", tickfont: font(px), automargin: false };
  const layout = {
    width: left + 6 + width * count, height: 22 + height * labels.length + 6,
    margin: { l: left, r: 6, t: 22, b: 6 }, paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)",
    xaxis: { ...axis, range: [-0.5, count - 0.5], tickvals: ticks, ticktext: ticks.map((i) => String(tower.columns[i])), tickangle: 0, side: "top" },
    yaxis: { ...axis, range: [labels.length - 0.5, -0.5], tickvals: labels.map((_, i) => i), ticktext: labels },
    shapes: outline(tower), hoverlabel: { font: { family: "monospace", size: 12 } }, dragmode: false,
  };
  Plotly.react(tower.div, [trace], layout, quiet);
}
