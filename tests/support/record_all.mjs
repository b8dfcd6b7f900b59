// Record what a list says: `node record_all.mjs WRITER LIST VALUES FOLDER`. Each line of LIST is a pass or a value.

import fs from "node:fs";
import { pathToFileURL } from "node:url";

const [writer, list, values, folder] = process.argv.slice(2);
const { Recorder } = await import(pathToFileURL(writer));
const arrays = {
  float64: Float64Array, float32: Float32Array, float16: Uint16Array, bfloat16: Uint16Array, int64: BigInt64Array,
  int32: Int32Array, int16: Int16Array, uint8: Uint8Array, bool: Uint8Array,
};
const bytes = fs.readFileSync(values);
let [rec, at] = [null, 0];
for (const line of fs.readFileSync(list, "utf8").split("\n").filter(Boolean)) {
  const [said, layout] = line.split(" |");
  const [word, ...rest] = said.split(" ");
  if (word !== "value") {
    const ids = rest.slice(1).map(Number);
    if (rec === null) rec = new Recorder(folder, ids, { weights: "tiny" });
    else rec.nextPass(ids, word === "prompt" ? { cached: 0 } : {});
    continue;
  }
  const [name, kind, , ...shape] = rest;
  const lengths = shape.map(Number);
  const size = lengths.reduce((a, b) => a * b, arrays[kind].BYTES_PER_ELEMENT);
  const array = new arrays[kind](new Uint8Array(bytes.subarray(at, at + size)).buffer);
  at += size;
  rec.record(name, array, layout, lengths, kind);
  new Uint8Array(array.buffer).fill(255); // what has been given may be written over
}
rec.close();
