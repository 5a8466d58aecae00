// A parent of multi-fetch, written from protocol.md: it verifies what comes, and keeps nothing.
import { spawn } from "node:child_process";
import { createHash } from "node:crypto";
import { decode } from "@msgpack/msgpack";

const KINDS = { hello: "int str int int array str", begin: "int str map str int/nil", data: "int int bin",
  end: "int int str/nil int", error: "int str str bool map", bye: "int int int int map" }; // elements that are known
const STATES = { " begin": "begun", "begun data": "begun", "begun end": "closed", // section 4
  " error": "closed", "begun error": "closed", "worker error": "worker" };
// What MessagePack's first bytes begin: a family, the bytes in which its size follows, and a size.
const sizes = (family, ...all) => all.map((size) => [family, 0, size]);
const widths = (family, size, ...all) => all.map((width) => [family, width, size]);
const FORMATS = [...sizes("int", ...Array(128).fill(0)), ...sizes("map", ...Array(16).keys()),
  ...sizes("array", ...Array(16).keys()), ...sizes("str", ...Array(32).keys()), ...sizes("nil", 0),
  ...sizes("reserved", NaN), ...sizes("bool", 0, 0), ...widths("bin", 0, 1, 2, 4), ...widths("ext", 1, 1, 2, 4),
  ...sizes("float", 4, 8), ...sizes("int", 1, 2, 4, 8, 1, 2, 4, 8), ...sizes("ext", 2, 3, 5, 9, 17),
  ...widths("str", 0, 1, 2, 4), ...widths("array", 0, 2, 4), ...widths("map", 0, 2, 4),
  ...sizes("int", ...Array(32).fill(0))];
const utf8 = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });
const refuse = (why) => { throw new Error(`stream refused: ${why}`); };

function head(bytes, at) { // of a value: its family, how many are in it, where it ends (or they begin), its start
  const [family, width, besides] = FORMATS[bytes[at]] ?? refuse("a value is cut");
  const [start, size] = [at + 1 + width, besides + (width && bytes.readUIntBE(at + 1, width))];
  const inner = { array: size, map: 2 * size }[family];
  return inner === undefined ? [family, 0, start + size, start] : [family, inner, start, start];
}

function split(bytes) { // the values in an array or a map, as the bytes of each
  let [[, count, start], parts] = [head(bytes, 0), []];
  for (let end = start; count > 0; count--, start = end) {
    for (let left = 1, inner; left > 0; left += inner - 1) [, inner, end] = head(bytes, end);
    parts.push(bytes.subarray(start, end));
  }
  return start === bytes.length ? parts : refuse("a payload does not end with its array");
}

// A value, if it is of one of these types. The library takes 1.0 for 1, and lets bad UTF-8 pass.
function fit(bytes, types) {
  const [family, , , start] = bytes ? head(bytes, 0) : ["nothing"];
  if (!types.split("/").includes(family)) refuse(`${family} instead of ${types}`);
  if (family === "str") return utf8.decode(bytes.subarray(start));
  if (family === "array") return split(bytes).map((part) => fit(part, "str"));
  if (family === "map")
    return new Map(split(bytes).flatMap((part, index, all) => (index % 2 ? [] : [[fit(part, "str"), all[index + 1]]])));
  const value = decode(bytes, { useBigInt64: true });
  if (typeof value === "bigint" && BigInt.asIntN(64, value) !== value) refuse(`${value} is too large`);
  return typeof value === "bigint" && Number.isSafeInteger(Number(value)) ? Number(value) : value;
}

async function* frames(stream) { // of known kinds; of a descriptor, what is always there
  let [limit, held, end] = [589_824, Buffer.alloc(0), 0];
  for await (const piece of stream) {
    for (held = Buffer.concat([held, piece]); held.length >= 4; held = held.subarray(end)) {
      end = 4 + held.readUInt32BE(0);
      if (end > 4 + limit) refuse(`a frame of ${end - 4} bytes`);
      if (held.length < end) break;
      const parts = head(held, 4)[0] === "array" ? split(held.subarray(4, end)) : refuse("no array");
      const kind = fit(parts[0], "str");
      if (!Object.hasOwn(KINDS, kind)) continue;
      const frame = [kind, ...KINDS[kind].split(" ").map((types, index) => fit(parts[index + 1], types))];
      const field = (name, types) => [name, fit(frame[3].get(name), types)];
      if (kind === "hello") limit = frame[4];
      if (kind === "begin")
        frame[3] = Object.fromEntries([field("mediaType", "str"), field("digest", "str"), field("size", "int/nil")]);
      yield frame;
    }
  }
  if (held.length) refuse("it ends within a frame");
}

function json(value) { // details are Maps, and left out
  if (Array.isArray(value)) return `[${value.map(json)}]`;
  if (value instanceof Uint8Array) return JSON.stringify(Buffer.from(value).toString("base64"));
  if (value === null || typeof value !== "object") return typeof value === "bigint" ? `${value}` : JSON.stringify(value);
  return `{${Object.entries(value).map(([name, of]) => `"${name}":${json(of)}`)}}`;
}

async function run(remote, lines) {
  const worker = spawn("multi-fetch", ["--protocol-version", "1", remote], { stdio: ["pipe", "pipe", "inherit"] });
  const ended = new Promise((resolve) => worker.on("close", resolve).on("error", () => resolve(127))); // as a shell
  worker.stdin.on("error", () => {}).end(`${lines.join("\n")}\n`); // Node writes it while we read
  const objects = { 0: { state: "worker", size: 0 } };
  let [last, succeeded] = ["", 0];
  for await (const [kind, id, ...rest] of frames(worker.stdout)) {
    if (last ? kind === "hello" || last === "bye" : kind !== "hello" || id !== 1) refuse(`${kind} ${id} after ${last}`);
    if ((last = kind) === "hello" || kind === "bye") continue;
    const object = (objects[id] ??= { state: "", size: 0, hash: createHash("sha256") });
    object.state = STATES[`${object.state} ${kind}`];
    if (!object.state || id > lines.length) refuse(`${kind} of ${id}`);
    if (kind === "data") {
      if (rest[0] !== object.size) refuse(`a gap before ${rest[0]} in ${id}`);
      object.hash.update(rest[1]);
      object.size += rest[1].length;
    } else if (kind === "end") {
      const sum = `sha256:${object.hash.digest("hex")}`;
      if (rest[0] !== object.size || (rest[1]?.startsWith("sha256:") && rest[1] !== sum)) refuse(`${id} is ${sum}`);
      console.log(`${id} ${rest[1] ?? "-"} ${object.size}`);
      succeeded += 1 - rest[2]; // what was found below is to succeed, too
    } else if (kind === "error") {
      console.log(`${id} ${rest[0]} ${object.size}`);
      console.error(`${id}: ${JSON.stringify(rest[1])}`); // quoted: its text may be the registry's
      succeeded -= 1; // so that they never add up
    }
  }
  return (await ended) || (last === "bye" && succeeded === lines.length ? 0 : 1);
}

process.stdout.on("error", () => process.exit(1)); // nobody reads us any more
try {
  const [remote, ...lines] = process.argv.slice(2);
  if (remote === "--decode") for await (const frame of frames(process.stdin)) console.log(json(frame));
  else if (lines.length && lines.every((line) => /^ *[^\x00- \x7f#!][^\x00-\x1f\x7f]*$/.test(line)))
    process.exitCode = await run(remote, lines);
  else process.exitCode = console.error("usage: node parent.mjs <remote> <request line>...") ?? 2;
} catch (error) {
  console.error(error.message);
  process.exit(1); // the pipes close, and end the worker
}
