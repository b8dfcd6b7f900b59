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
const POLICY = [...ARITHMETIC, "rope_angle", "attention_impl", ...PRODUCTS];

/** Writes values into a dump as they are given; the folder takes its name when complete. Errors have one line. */
export class Recorder {
  /**
   * @param {string} folder where the dump will be; must not exist or be empty
   * @param {Iterable<number|bigint>} ids token ids of the first pass, one row of a batch
   * @param {object} [about] of the run: weights (what --weights takes, or {name, dtype, sha256}), policy, producer (a
   *   name, or {name, version}), names, config; of the pass: leftPads, positions, imageBlocks, pixels ({data, dims})
   */
  constructor(folder, ids, about = {}) {
    const { weights = NOT_SAID, policy = {}, producer = NOT_SAID, names = "ref", config = {}, ...pass } = about;
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
    this._floats = {};
    this._passes = [];
    const row = rowOf(ids, 0, pass);
    this._new = partOf(this.folder);
    this._writing(() => this._begin(row, pass.pixels));
  }

  /**
   * Writes a value now: what happens to the array later does not matter.
   * @param {string} name of the tap
   * @param {ArrayBufferView|{data: ArrayBufferView, dims: number[], type: string}} value a typed array, or a tensor
   * @param {string} [layout] its axes in the order in which they lie, such as "T (N H)"; "" is the tap's own order
   * @param {number[]} [shape] lengths of the axes, if the value does not bring them
   * @param {string} [dtype] of a Uint16Array: bfloat16, float16 or uint16; of a Uint8Array: bool or uint8
   * @returns the value as it was given
   */
  record(name, value, layout = "", shape = value?.dims, dtype = value?.type) {
    const row = this._open();
    const good = typeof name === "string" && /^\P{C}+$/u.test(name) && name !== "__metadata__";
    if (!good || name.length > LONGEST)
      throw wrong("name of a tap", `1 to ${LONGEST} printable characters`, JSON.stringify(name));
    if (Object.hasOwn(row.tensors, name)) throw wrong(`value ${name}`, "one in a pass", "a second one");
    const [bytes, kind, lengths] = bytesOf(name, value?.data ?? value, shape, dtype);
    checkLayout(name, layout, lengths, row.ids.length);
    this._writing(() => {
      if (this._file.add(name, bytes, kind, lengths)) return;
      const part = new Set(Object.values(row.tensors).map((one) => one.file)).size;
      const more = `pass${padded(this._passes.length - 1, 4)}-${padded(part, 2)}.safetensors`;
      this._file.close();
      this._file = new TensorFile(this._new, more);
      this._file.add(name, bytes, kind, lengths);
    });
    row.tensors[name] = { file: this._file.name, layout, shape: lengths, dtype: kind };
    if (kind.includes("float")) this._floats[kind] = (this._floats[kind] ?? 0) + 1;
    return value;
  }

  /**
   * Begins another pass: a decode step or chunk, or with {cached: 0} another prompt or row of a batch.
   * @param {Iterable<number|bigint>} ids token ids of this pass alone
   * @param {object} [pass] cached (how many keys there were; default: all so far), and as of the constructor
   */
  nextPass(ids, pass = {}) {
    const before = this._open();
    const keys = before.cached + before.ids.length;
    const cached = pass.cached ?? keys;
    const want = `0, or the ${keys} keys that the pass before leaves`;
    if (cached !== 0 && cached !== keys) throw wrong("cached", want, cached);
    const row = rowOf(ids, cached, { leftPads: cached ? before.left_pads : 0, ...pass });
    this._writing(() => {
      this._file.close();
      this._begin(row, pass.pixels);
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

  _begin(row, pixels) {
    const number = padded(this._passes.length, 4);
    if (pixels) {
      const [bytes, kind, lengths] = bytesOf("pixels", pixels.data, pixels.dims, pixels.type);
      if (lengths.length !== 4 || !kind.includes("float"))
        throw wrong("pixels", "floats [images, C, Y, X]", `${kind} [${lengths}]`);
      const file = new TensorFile(this._new, `pixels${number}.safetensors`);
      file.add("pixels", bytes, kind, lengths);
      file.close();
      row.pixels = file.name;
    }
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

  /** Writes a tensor; false where the header has no room for it. */
  add(name, bytes, kind, shape) {
    const entry = { dtype: KINDS[kind][0], shape, data_offsets: [this._end, this._end + bytes.length] };
    const text = `${JSON.stringify(name)}: ${JSON.stringify(entry)}`;
    this._room -= Buffer.byteLength(text) + 2;
    if (this._room < 0) return false;
    this._put(bytes, 8 + HEADER + this._end);
    this._header.push(text);
    this._end += bytes.length;
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

/** Returns a pass as dump.json has it, checked; its tensors are yet to come. */
function rowOf(ids, cached, { leftPads = 0, positions, imageBlocks = [] }) {
  const tokens = integers("ids", ids, 0);
  if (!tokens.length) throw wrong("ids", "at least one token", "none");
  const [pads] = integers("leftPads", [leftPads], 0);
  if (pads && pads >= (cached || tokens.length)) throw wrong("leftPads", `fewer than ${cached || tokens.length}`, pads);
  const counted = tokens.map((_, index) => Math.max(-1, cached + index - pads));
  const places = positions ? integers("positions", positions, -1) : counted;
  if (places.length !== tokens.length || places.some((place, index) => place < 0 !== counted[index] < 0))
    throw wrong("positions", `${tokens.length}, as ids, of which -1 at ${cached ? 0 : pads} left pads`, `[${places}]`);
  const pairs = Array.from(imageBlocks, (pair) => integers("imageBlocks", pair, 0));
  let before = 0;
  for (const pair of pairs) {
    const [start, stop] = pair;
    if (pair.length !== 2 || start < before || stop <= start || stop > cached + tokens.length)
      throw wrong("imageBlocks", `start < stop <= ${cached + tokens.length}, one behind the other`, `[${pairs}]`);
    before = stop;
  }
  return { ids: tokens, positions: places, cached, image_blocks: pairs, left_pads: pads, pixels: null, tensors: {} };
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
