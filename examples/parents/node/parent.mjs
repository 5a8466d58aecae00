// A parent of multi-fetch, written from protocol.md: it verifies what comes, and keeps nothing.
import { isUtf8 } from "node:buffer";
import { spawn } from "node:child_process";
import { createHash } from "node:crypto";
import { once } from "node:events";
import { Decoder } from "@msgpack/msgpack"; // its very version: what is overridden is private in TypeScript

// The library takes 1.0 for 1, and lets bad UTF-8 pass: here a float is a Number object, such text undefined.
class StrictDecoder extends Decoder {
  readF32() { return new Number(super.readF32()); }
  readF64() { return new Number(super.readF64()); }
  decodeUtf8String(size, headSize) {
    const start = this.pos + headSize;
    const text = super.decodeUtf8String(size, headSize); // goes on behind it, or throws where it is cut
    return isUtf8(this.bytes.subarray(start, start + size)) ? text : undefined;
  }
}
const decoder = new StrictDecoder({ useBigInt64: true, mapKeyConverter: String, maxArrayLength: 589_824 });
// Section 3: what the elements of a frame, the fields of a descriptor and the facts of a detail may be.
const isLong = (value) => typeof value === "bigint" && BigInt.asIntN(64, value) === value;
const isInt = (value) => Number.isInteger(value) || isLong(value);
const shorten = (value) => (isLong(value) && Number.isSafeInteger(Number(value)) ? Number(value) : value);
const isStr = (value) => typeof value === "string";
const isBin = (value) => value instanceof Uint8Array;
const isMap = (value) => Object.getPrototypeOf(value ?? 0) === Object.prototype;
const orNil = (is) => (value) => value === null || is(value);
const isStrs = (value) => Array.isArray(value) && value.every(isStr);
const mapOf = (is) => (value) => isMap(value) && Object.values(value).every(is);
const isScalar = (value) => isInt(value) || isStr(value) || value instanceof Number;
const isFact = (value) => isScalar(value) || mapOf(isScalar)(value);
const FIELDS = { mediaType: isStr, digest: isStr, size: orNil(isInt), urls: isStrs, data: isStr,
  annotations: mapOf(isStr), artifactType: isStr, platform: isMap };
const isField = (value, name) => Object.hasOwn(FIELDS, name) && FIELDS[name](value);
const isDescriptor = (of) => isMap(of) && ["mediaType", "digest", "size"].every((name) => FIELDS[name](of[name]));
const ELEMENTS = {
  hello: [isInt, isStr, isInt, isInt, isStrs, isStr], begin: [isInt, isStr, isDescriptor, isStr, orNil(isInt)],
  data: [isInt, isInt, isBin], file: [isInt, isStr, isInt], end: [isInt, isInt, orNil(isStr), isInt], bye: [isInt, isInt, isInt, isInt, isMap],
  error: [isInt, isStr, isStr, (value) => value === true || value === false, isMap] };
const KEPT = { begin: isField, error: isFact, bye: isFact }; // of what is in a map
const STATES = { "asked begin": "begun", "asked error": "failed", "begun data": "begun", // section 4
  "begun end": "ended", "begun error": "failed", "worker error": "failed" };
const refuse = (why) => { throw new Error(`stream refused: ${why}`); };

function unpack(payload) { // -> a frame as far as it is known; nothing of an unknown kind
  const [kind, ...elements] = [decoder.decode(payload)].find(Array.isArray) ?? [];
  if (!Object.hasOwn(ELEMENTS, isStr(kind) ? kind : refuse("no array, or no kind in front"))) return [];
  const keep = (map) => Object.fromEntries(Object.entries(map).filter(([name, of]) => KEPT[kind](of, name)));
  return [kind, ...ELEMENTS[kind].map((is, at) => {
    const value = is(elements[at]) ? elements[at] : refuse(`element ${at + 1} of ${kind}`);
    return isMap(value) ? keep(value) : shorten(value);
  })];
}

async function* frames(stream) {
  let [limit, held, end] = [589_824, Buffer.alloc(0), 0];
  for await (const piece of stream) {
    for (held = Buffer.concat([held, piece]); held.length >= 4; held = held.subarray(end)) {
      end = 4 + held.readUInt32BE(0);
      if (end > 4 + limit) refuse(`a frame of ${end - 4} bytes`);
      if (held.length < end) break;
      const frame = unpack(held.subarray(4, end));
      if (frame[0] === "hello") limit = Math.min(limit, Number(frame[4]));
      if (frame.length) yield frame;
    }
  }
  if (held.length) refuse("it ends within a frame");
}
const json = (value) =>
  Array.isArray(value) ? `[${value.map(json)}]`
    : isMap(value) ? `{${Object.entries(value).map(([name, of]) => `${json(name)}:${json(of)}`)}}`
      : isBin(value) ? `"${Buffer.from(value).toString("base64")}"`
        : typeof value === "bigint" ? String(value) : JSON.stringify(value);

async function run(remote, lines) {
  const worker = spawn("multi-fetch", ["--protocol-version", "1", remote], { stdio: ["pipe", "pipe", 2] });
  process.on("exit", () => worker.kill()); // where the stream was refused; otherwise it has ended
  const closed = once(worker, "close");
  worker.stdin.on("error", () => {}).end(`${lines.join("\n")}\n`); // Node writes it while we read
  const asked = () => ({ state: "asked", size: 0, hash: createHash("sha256"), announced: 0 });
  const objects = new Map([[0, { state: "worker" }], ...lines.map((_, index) => [index + 1, asked()])]);
  let last = "";
  for await (const [kind, id, ...rest] of frames(worker.stdout)) {
    const isNext = kind === "hello" ? last === "" && id === 1 : last !== "" && last !== "bye";
    if (!isNext) refuse(`${kind} ${id} after "${last}"`);
    if ((last = kind) === "hello" || kind === "bye") continue;
    if (id < 0 && !objects.has(id)) { // found below an object, which its first frame names
      const parent = objects.get(kind === "begin" ? rest[3] : rest[3]?.parent);
      if (!parent?.announced) refuse(`nothing has announced ${id}`);
      parent.announced -= 1;
      objects.set(id, asked());
    }
    const object = objects.get(id) ?? refuse(`${kind} of ${id}`);
    object.state = STATES[`${object.state} ${kind}`] ?? refuse(`${kind} of ${id}, which is ${object.state}`);
    if (kind === "data") {
      if (rest[0] !== object.size) refuse(`a gap before ${rest[0]} in ${id}`);
      object.hash.update(rest[1]);
      object.size += rest[1].length;
    } else if (kind === "end") {
      const [size, digest, children] = rest;
      const sum = `sha256:${object.hash.digest("hex")}`;
      if (size !== object.size || (digest?.startsWith("sha256:") && digest !== sum)) refuse(`${id} is ${sum}`);
      console.log(`${id} ${digest ?? "-"} ${size}`);
      object.announced = children;
    } else if (kind === "error") {
      console.log(`${id} ${rest[0]} ${object.size ?? 0}`);
      console.error(`${id}: ${JSON.stringify(rest[1])}`); // quoted: its text may be the registry's
    }
  }
  const [status] = await closed; // null where a signal ended it
  const isGood = ({ state, announced }) => state === "worker" || (state === "ended" && announced === 0);
  return last === "bye" && [...objects.values()].every(isGood) ? status ?? 1 : status || 1;
}

process.on("uncaughtException", (error) => { console.error(`parent: ${error.message}`); process.exit(1); });
const [remote, ...lines] = process.argv.slice(2);
const isRequest = (line) => /^[^\x00- \x7f#!][^\x00-\x1f\x7f]*$/.test(line);
if (remote === "--decode") for await (const frame of frames(process.stdin)) console.log(json(frame));
else if (lines.length && lines.every(isRequest)) process.exitCode = await run(remote, lines);
else process.exitCode = console.error("usage: node parent.mjs <remote> <request line>...") ?? 2;
