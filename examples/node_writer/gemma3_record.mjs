// Write a dump of your own port of Gemma 3 in JavaScript: Node 18 or newer, no packages.
//
//   import { Recorder } from "./gemma3_record.mjs";
//   const rec = new Recorder("dump", ids, { weights: "270m" });         // token ids of the prompt
//   rec.record("text.layer.0.attn.q", q, "T N H", [6, 4, 256]);         // a typed array; its axes as they lie
//   rec.close();                                                        // then: gemma3-ref compare dump
//
// A tensor of onnxruntime or Transformers.js brings its lengths along: rec.record("text.logits", logits, "B T V").
// Copy this file into your project, as it is or changed.
// SPDX-License-Identifier: Apache-2.0

import fs from "node:fs";
import os from "node:os";
import path from "node:path";

const HEADER = 2 ** 16 - 8; // bytes left at the start of each file for its header, which is written last
const CHUNK = 2 ** 30; // bytes per write: Node takes fewer than 2 GiB
const LONGEST = 255; // characters of a name
const NOT_SAID = "not said";
const NAMES = ["ref", "transformers", "gemma", "llama.cpp", "keras", "mlx", "transformer_lens"];
const LAYOUT = /^(\w|\(\w( \w)+\))( (\w|\(\w( \w)+\)))*$/;
const KINDS = {
  float64: ["F64", 8], float32: ["F32", 4], float16: ["F16", 2], bfloat16: ["BF16", 2],
  int64: ["I64", 8], int32: ["I32", 4], int16: ["I16", 2], int8: ["I8", 1],
  uint64: ["U64", 8], uint32: ["U32", 4], uint16: ["U16", 2], uint8: ["U8", 1], bool: ["BOOL", 1],
};
const ARRAYS = {
  Float64Array: "float64", Float32Array: "float32", Float16Array: "float16", Uint8Array: "uint8", Int8Array: "int8",
  BigInt64Array: "int64", Int32Array: "int32", Int16Array: "int16", BigUint64Array: "uint64", Uint32Array: "uint32",
};
const ARITHMETIC = ["compute_dtype", "matmul_activations", "kv_dtype"]; // by default the format of most values
const PRODUCTS = ["matmul_operands", "conv_operands", "accumulate", "products"];
const VERSION_2 = ["row", "kept", "slots", "cache_slots"]; // what a pass of version 1 does not say
const POLICY = [...ARITHMETIC, "rope_angle", "attention_impl", ...PRODUCTS];

/** Writes values into a dump as they are given; the folder takes its name when complete. Errors have one line. */
export class Recorder {
  /**
   * @param {string} folder where the dump will be; must not exist or be empty
   * @param {Iterable<number|bigint>} ids token ids of the first pass, one row of a batch
   * @param {object} [about] of the run: weights (what --weights takes, or {name, dtype, sha256}), policy, producer (a
   *   name, or {name, version}), names, config, adapter ({name, merged} of LoRA on the weights); of the pass: leftPads,
   *   positions (-1 at padding), imageBlocks, pixels ({data, dims}), row (of a batch whose rows take turns), slots and
   *   cacheSlots (where in the cache each key was written, and how many places it has)
   */
  constructor(folder, ids, about = {}) {
    const { weights = NOT_SAID, policy = {}, producer = NOT_SAID, names = "ref", config = {}, ...more } = about;
    const { adapter, ...pass } = more;
    if (os.endianness() !== "LE") throw wrong(folder, "a little-endian machine", "another");
    this.folder = path.resolve(folder);
    const named = typeof weights === "string" ? { name: weights } : weights;
    const made = typeof producer === "string" ? { name: producer } : producer;
    check("policy", policy, POLICY);
    check("weights", named, ["name", "dtype", "sha256"]);
    check("producer", made, ["name", "version"]);
    if (!NAMES.includes(names)) throw wrong("names", NAMES.join(" "), names);
    this._policy = policy;
    this._head = {
      format_version: 1, names, producer: { name: NOT_SAID, version: NOT_SAID, ...made },
      model: { config, weights: { name: NOT_SAID, dtype: NOT_SAID, sha256: null, ...named } },
    };
    if (adapter !== undefined) this._sayAdapter(adapter);
    this._floats = {};
    this._passes = [];
    this._rows = new Map(); // of each row of the batch: {real, leftPads} of the keys that it has
    const row = rowOf(ids, NO_KEYS, pass);
    this._new = partOf(this.folder);
    this._writing(() => this._begin(row, pass.pixels, row.row ?? 0, NO_KEYS));
  }

  /**
   * Writes a value now: what happens to the array later does not matter.
   * @param {string} name of the tap
   * @param {ArrayBufferView|{data: ArrayBufferView, dims: number[], type: string}} value a typed array, or a tensor
   * @param {string} [layout] its axes in the order in which they lie, such as "T (N H)"; "" is the tap's own order
   * @param {number[]} [shape] lengths of the axes, if the value does not bring them
   * @param {string} [dtype] of a Uint16Array: bfloat16, float16 or uint16; of a Uint8Array: bool or uint8
   * @param {ArrayBufferView|object} [plus] what is to be added to it: a residual stream that is kept as two
   * @returns the value as it was given
   */
  record(name, value, layout = "", shape = value?.dims, dtype = value?.type, plus = undefined) {
    const row = this._open();
    const good = typeof name === "string" && /^\P{C}+$/u.test(name) && name !== "__metadata__";
    if (!good || name.length > LONGEST)
      throw wrong("name of a tap", `1 to ${LONGEST} printable characters`, JSON.stringify(name));
    const [bytes, kind, lengths] = bytesOf(name, value?.data ?? value, shape, dtype);
    checkLayout(name, layout, lengths, row.ids.length);
    const several = { [name]: bytes };
    if (plus !== undefined) {
      if (!kind.includes("float")) throw wrong(`plus of ${name}`, "values of floats", kind);
      [several[`${name}.plus`]] = bytesOf(`plus of ${name}`, plus?.data ?? plus, shape, dtype ?? kind);
    }
    if (Object.keys(several).some((one) => this._names.has(one)))
      throw wrong(`value ${name}`, "one in a pass", "a second one");
    this._writing(() => {
      if (this._file.add(several, kind, lengths)) return;
      const part = new Set(Object.values(row.tensors).map((one) => one.file)).size;
      const more = `pass${padded(this._passes.length - 1, 4)}-${padded(part, 2)}.safetensors`;
      this._file.close();
      this._file = new TensorFile(this._new, more);
      this._file.add(several, kind, lengths);
    });
    row.tensors[name] = { file: this._file.name, layout, shape: lengths, dtype: kind };
    for (const one of Object.keys(several)) this._names.add(one);
    if (plus !== undefined) {
      row.tensors[name].plus = `${name}.plus`;
      this._head.format_version = 2;
    }
    if (kind.includes("float")) this._floats[kind] = (this._floats[kind] ?? 0) + 1;
    return value;
  }

  /**
   * Begins another pass: a decode step or chunk, or with {cached: 0} another prompt or row of a batch.
   * @param {Iterable<number|bigint>} ids token ids of this pass alone
   * @param {object} [pass] cached (how many keys there were; default: all that the row has), kept ([start, stop,
   *   position] of those that are still there, where some were dropped or moved: [[0, 17, 0]] of rejected tokens,
   *   [[0, 4, 0], [12, 20, 4]] of a context shift), and as of the constructor; without a row that of the pass before
   */
  nextPass(ids, pass = {}) {
    this._open();
    const { cached, kept, row: given } = pass;
    if (given !== undefined) integers("row", [given], 0);
    const number = given ?? (cached === 0 ? Math.max(...this._rows.keys()) + 1 : this._row);
    let before = this._rows.get(number) ?? NO_KEYS;
    const whose = given === undefined ? "the pass before leaves" : `row ${given} has`;
    if (kept === undefined && cached !== undefined && cached !== before.real.length)
      throw wrong("cached", `0, or the ${before.real.length} keys that ${whose}`, cached);
    if (kept !== undefined && cached !== undefined) throw wrong("cached", "nothing beside kept, which says it", cached);
    if (kept !== undefined) before = keysLeft(kept, before);
    const row = rowOf(ids, before, { leftPads: before.leftPads, ...pass });
    this._writing(() => {
      this._file.close();
      this._begin(row, pass.pixels, number, before);
    });
  }

  /** Completes the dump and gives the folder its name, which it returns. */
  close() {
    this._open();
    const some = this._passes.some((row) => Object.keys(row.tensors).length);
    if (!some) throw wrong(this.folder, "values to write", "none");
    const most = Object.entries(this._floats).sort((a, b) => b[1] - a[1])[0]?.[0] ?? "float32";
    const said = Object.fromEntries(ARITHMETIC.map((field) => [field, most]));
    const policy = { ...said, rope_angle: NOT_SAID, attention_impl: NOT_SAID, ...this._policy };
    const content = JSON.stringify({ ...this._head, policy, passes: this._passes }, null, 1);
    this._writing(() => {
      this._file.close();
      fs.writeFileSync(path.join(this._new, "dump.json"), `${content}\n`);
      if (fs.existsSync(this.folder)) fs.rmdirSync(this.folder);
      fs.renameSync(this._new, this.folder);
    });
    this._new = null;
    return this.folder;
  }

  /** Removes what was written so far; the dump never comes to be. */
  abandon() {
    if (this._new === null) return;
    this._file?.drop();
    fs.rmSync(this._new, { recursive: true, force: true });
    this._new = null;
  }

  _open() {
    if (this._new === null) throw wrong(this.folder, "a recorder that is open", "one that was closed");
    return this._passes.at(-1);
  }

  _writing(write) {
    try {
      write();
    } catch (error) {
      this.abandon();
      throw error.code ? wrong(this.folder, "an empty or new folder with room to write", error.code) : error;
    }
  }

  _sayAdapter(adapter) {
    check("adapter", adapter, ["name", "merged"]);
    if (typeof adapter.name !== "string" || typeof adapter.merged !== "boolean")
      throw wrong("adapter", "a text as name, true or false as merged", JSON.stringify(adapter));
    this._head.model.adapter = adapter;
    this._head.format_version = 2;
  }

  _begin(row, pixels, rowNumber, before) {
    const number = padded(this._passes.length, 4);
    if (pixels) {
      const [bytes, kind, lengths] = bytesOf("pixels", pixels.data, pixels.dims, pixels.type);
      if (lengths.length !== 4 || !kind.includes("float"))
        throw wrong("pixels", "floats [images, C, Y, X]", `${kind} [${lengths}]`);
      const file = new TensorFile(this._new, `pixels${number}.safetensors`);
      file.add({ pixels: bytes }, kind, lengths);
      file.close();
      row.pixels = file.name;
    }
    const real = row.positions.map((place) => place >= 0);
    const left = before.real.length ? 0 : row.left_pads;
    if (VERSION_2.some((field) => field in row) || real.some((one, at) => !one && at >= left))
      this._head.format_version = 2;
    this._row = rowNumber;
    this._rows.set(rowNumber, { real: [...before.real, ...real], leftPads: row.left_pads });
    this._names = new Set();
    this._passes.push(row);
    this._file = new TensorFile(this._new, `pass${number}.safetensors`);
  }
}

/** A safetensors file that grows: its header is written last, into room that was left for it. */
class TensorFile {
  constructor(folder, name) {
    this.name = name;
    this._file = fs.openSync(path.join(folder, name), "wx");
    [this._header, this._room, this._end] = [[], HEADER - 2, 0];
  }

  /** Writes tensors that belong together, by name; false where the header has no room for them. */
  add(several, kind, shape) {
    let end = this._end;
    const texts = Object.entries(several).map(([name, bytes]) => {
      const entry = { dtype: KINDS[kind][0], shape, data_offsets: [end, (end += bytes.length)] };
      return `${JSON.stringify(name)}: ${JSON.stringify(entry)}`;
    });
    this._room -= texts.reduce((sum, text) => sum + Buffer.byteLength(text) + 2, 0);
    if (this._room < 0) return false;
    for (const bytes of Object.values(several)) {
      this._put(bytes, 8 + HEADER + this._end);
      this._end += bytes.length;
    }
    this._header.push(...texts);
    return true;
  }

  /** Writes the header; spaces behind it are part of the format. */
  close() {
    const head = Buffer.alloc(8 + HEADER, " ");
    head.writeBigUInt64LE(BigInt(HEADER));
    head.write(`{${this._header.join(", ")}}`, 8);
    this._put(head, 0);
    this.drop();
  }

  drop() {
    if (this._file !== null) fs.closeSync(this._file);
    this._file = null;
  }

  _put(bytes, place) {
    // one call may write less than it was given
    for (let at = 0; at < bytes.length; )
      at += fs.writeSync(this._file, bytes, at, Math.min(CHUNK, bytes.length - at), place + at);
  }
}

const NO_KEYS = { real: [], leftPads: 0 }; // real: of each key whether it is no padding

/** Returns a pass as dump.json has it, checked; its tensors are yet to come. */
function rowOf(ids, before, { leftPads = 0, positions, imageBlocks = [], row, kept, slots, cacheSlots }) {
  const tokens = integers("ids", ids, 0);
  const cached = before.real.length;
  if (!tokens.length) throw wrong("ids", "at least one token", "none");
  const [pads] = integers("leftPads", [leftPads], 0);
  if (pads && pads >= (cached || tokens.length)) throw wrong("leftPads", `fewer than ${cached || tokens.length}`, pads);
  if (cached && pads !== before.leftPads) throw wrong("leftPads", `${before.leftPads}, as the row began with`, pads);
  const left = cached ? 0 : pads;
  const count = before.real.filter(Boolean).length;
  const places = positions
    ? integers("positions", positions, -1)
    : tokens.map((_, index) => (index < left ? -1 : count + index - left));
  const bad = places.slice(0, left).some((place) => place >= 0) || places.every((place) => place < 0);
  if (places.length !== tokens.length || bad)
    throw wrong("positions", `${tokens.length}, as ids, -1 at ${left} left pads and not everywhere`, `[${places}]`);
  const pairs = Array.from(imageBlocks, (pair) => integers("imageBlocks", pair, 0));
  let last = 0;
  for (const pair of pairs) {
    const [start, stop] = pair;
    if (pair.length !== 2 || start < last || stop <= start || stop > cached + tokens.length)
      throw wrong("imageBlocks", `start < stop <= ${cached + tokens.length}, one behind the other`, `[${pairs}]`);
    last = stop;
  }
  const more = served(tokens.length, { row, kept, slots, cacheSlots });
  const said = { ids: tokens, positions: places, cached, image_blocks: pairs, left_pads: pads, ...more };
  return { ...said, pixels: null, tensors: {} };
}

/** Returns what is said of row, kept keys and slots; whether another pass has a slot is for the judge to find. */
function served(tokens, { row, kept, slots, cacheSlots }) {
  const out = {};
  if (row !== undefined) [out.row] = integers("row", [row], 0);
  if (kept !== undefined) out.kept = kept;
  if (slots !== undefined) {
    out.slots = integers("slots", slots, 0);
    if (out.slots.length !== tokens || new Set(out.slots).size !== tokens)
      throw wrong("slots", `${tokens}, as ids, each once`, `[${out.slots}]`);
  }
  const most = Math.max(0, ...(out.slots ?? []));
  if (cacheSlots !== undefined) [out.cache_slots] = integers("cacheSlots", [cacheSlots], most + 1);
  return out;
}

/** Returns the keys of a row that are left. */
function keysLeft(kept, before) {
  if (before.leftPads) throw wrong("kept", "a row without left pads", `${before.leftPads} of them`);
  const real = [];
  let last = 0;
  for (const one of Array.isArray(kept) ? kept : [null]) {
    const [start, stop, position] = integers("kept", one, 0);
    const there = last <= start && start < stop && stop <= before.real.length && one.length === 3;
    if (!there || position !== real.filter(Boolean).length) {
      const keys = `the ${before.real.length} keys that are there`;
      const want = `[start, stop, position] within ${keys}, positions one after the other`;
      throw wrong("kept", want, JSON.stringify(kept));
    }
    real.push(...before.real.slice(start, stop));
    last = stop;
  }
  return { real, leftPads: 0 };
}

function integers(what, given, least) {
  const listed = typeof given?.[Symbol.iterator] === "function" && typeof given !== "string";
  const row = listed ? Array.from(given, asNumber) : [NaN];
  const bad = row.find((one) => !Number.isSafeInteger(one) || one < least);
  if (bad !== undefined) throw wrong(what, `integers from ${least}`, bad);
  return row;
}

/** Returns a bigint, as token ids of onnxruntime are, as a number; whatever is none as NaN. */
function asNumber(one) {
  return typeof one === "bigint" || typeof one === "number" ? Number(one) : NaN;
}

/** Returns the bytes of a typed array, the name of its dtype, and its lengths. */
function bytesOf(what, data, shape, dtype) {
  const own = ArrayBuffer.isView(data) ? data.constructor.name : typeof data;
  const kind = own in ARRAYS && dtype === undefined ? ARRAYS[own] : dtype;
  if (own === "Uint16Array" && kind === undefined)
    throw wrong(what, 'a dtype: "bfloat16", "float16" or "uint16"', own);
  const bits = { bfloat16: "Uint16Array", float16: "Uint16Array", uint16: "Uint16Array", bool: "Uint8Array" };
  if (!Object.hasOwn(KINDS, kind ?? "") || (ARRAYS[own] !== kind && bits[kind] !== own))
    throw wrong(what, dtype ?? "a typed array", own);
  if (!Array.isArray(shape)) throw wrong(`shape of ${what}`, "an array of lengths", shape);
  const lengths = integers(`shape of ${what}`, shape, 0);
  const length = lengths.reduce((a, b) => a * b, 1);
  if (length !== data.length) throw wrong(`shape of ${what}`, `lengths of ${data.length} values`, `[${lengths}]`);
  return [new Uint8Array(data.buffer, data.byteOffset, data.byteLength), kind, lengths];
}

/** Refuses a layout that is none, or axes that the shape cannot have in this pass. */
function checkLayout(what, layout, shape, tokens) {
  if (layout === "") return;
  const upper = String(layout).toUpperCase();
  const letters = upper.match(/\w/g) ?? [];
  const most = { 1: 32, P: 2 };
  const twice = letters.some((axis) => letters.filter((one) => one === axis).length > (most[axis] ?? 1));
  if (!LAYOUT.test(layout) || twice || letters.some((axis) => !"BTSDNKGHFVPMCYX12".includes(axis)))
    throw wrong(`layout of ${what}`, 'axes such as "T (N H)" or "B N T H", each once', JSON.stringify(layout));
  const known = letters.includes("T") ? { T: tokens, B: 1, 1: 1, 2: 2 } : { 1: 1 }; // without T, B counts images
  const groups = upper.match(/\([^)]*\)|\w/g).map((group) => group.match(/\w/g));
  const fits = groups.every((axes, index) => {
    const rest = axes.reduce((product, axis) => product * (known[axis] ?? 1), 1);
    return axes.every((axis) => axis in known) ? shape[index] === rest : shape[index] % rest === 0;
  });
  if (groups.length === shape.length && fits) return;
  throw wrong(`shape of ${what}`, `${layout}${letters.includes("T") ? ` where T is ${tokens}` : ""}`, `[${shape}]`);
}

function check(what, given, fields) {
  const more = Object.keys(given ?? {}).filter((field) => !fields.includes(field));
  if (typeof given !== "object" || given === null || more.length)
    throw wrong(what, `some of ${fields.join(" ")}`, more.join(" ") || given);
}

/** Makes a folder beside another, under a name of its own: what a killed process left may be there. */
function partOf(folder) {
  try {
    const taken = fs.existsSync(folder) && (!fs.statSync(folder).isDirectory() || fs.readdirSync(folder).length > 0);
    if (taken) throw wrong(folder, "an empty or new folder", "something in the way");
    let number = 0;
    while (fs.existsSync(`${folder}.${process.pid}-${number}.part`)) number++;
    return makeFolder(`${folder}.${process.pid}-${number}.part`);
  } catch (error) {
    throw error.code ? wrong(folder, "a folder that can be made", error.code) : error;
  }
}

/** Makes a folder with its parents. Node's own way of it never returns where the parent cannot be made, as in /proc. */
function makeFolder(folder) {
  if (!fs.existsSync(path.dirname(folder))) makeFolder(path.dirname(folder));
  fs.mkdirSync(folder);
  return folder;
}

function padded(number, width) {
  return String(number).padStart(width, "0");
}

/** Builds a refusal of one line: what, wanted, got. */
function wrong(what, want, got) {
  const line = `${what}: wanted ${want}, got ${got}`.replace(/\s+/g, " ").replace(/\p{C}/gu, "?");
  return new Error(line.slice(0, 600));
}
