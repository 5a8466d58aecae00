// A parent of multi-fetch in JavaScript, written from protocol.md. Its content goes nowhere: it is
// only verified.
//
//   node parent.mjs <remote> <object>...   each is a line of its own: latest "latest size:5"
//                                          prints: <id> <digest, - or error code> <size>
//   node parent.mjs --decode < stream      prints one JSON line a frame
//
// Exit status: 0 all succeeded, 1 something failed, 2 usage, or what the worker ended with.
// The worker is $MULTI_FETCH, or multi-fetch on the PATH.
import { spawn } from "node:child_process";
import { createHash, getHashes } from "node:crypto";
import { decode } from "@msgpack/msgpack";
import { shape, refuse, KINDS } from "./shape.mjs";

function parse(payload) { // a frame as [kind, ...elements], or null if its kind is unknown
  const known = shape(payload);
  if (known === null) return null;
  const types = KINDS[known.kind];
  const frame = decode(payload, { useBigInt64: true }).slice(0, 1 + types.length).map((value) =>
    typeof value === "bigint" && Number.isSafeInteger(Number(value)) ? Number(value) : value);
  const at = 1 + types.indexOf("map");
  if (at) frame[at] = Object.fromEntries(Object.entries(frame[at]).filter(([name]) => known.names.has(name)));
  return frame;
}

async function* frames(stream) {
  let limit = 589_824;
  let held = Buffer.alloc(0);
  for await (const piece of stream) {
    held = Buffer.concat([held, piece]);
    while (held.length >= 4) {
      const length = held.readUInt32BE(0);
      if (length > limit) refuse(`a frame of ${length} bytes`);
      if (held.length < 4 + length) break;
      const frame = parse(held.subarray(4, 4 + length));
      held = held.subarray(4 + length);
      if (frame?.[0] === "hello") limit = frame[4];
      if (frame) yield frame;
    }
  }
  if (held.length) refuse("it ends within a frame");
}

function json(value) { // as in tests/vectors/README.md
  if (typeof value === "bigint") return String(value);
  if (value instanceof Uint8Array && value.length <= 1024)
    return json({ base64: Buffer.from(value).toString("base64") });
  if (value instanceof Uint8Array)
    return json({ size: value.length, sha256: createHash("sha256").update(value).digest("hex") });
  if (Array.isArray(value)) return `[${value.map(json)}]`;
  if (value === null || typeof value !== "object") return JSON.stringify(value);
  return `{${Object.entries(value).map(([name, of]) => `${JSON.stringify(name)}:${json(of)}`)}}`;
}

// Section 4. Takes ids out of `asked` and `begun` as they are answered; true if all went well.
async function session(stream, asked, begun) {
  let last = "";
  let isGood = true;
  for await (const [kind, id, ...rest] of frames(stream)) {
    if ((kind === "hello") !== (last === "") || last === "bye") refuse(`${kind} behind ${last || "nothing"}`);
    last = kind;
    const open = begun.get(id);
    if (kind === "hello" && id !== 1) refuse(`version ${id}`);
    if (kind === "begin") {
      if (open || (id >= 0 && !asked.delete(id))) refuse(`begin of ${id}`);
      const algorithm = rest[1].digest.split(":")[0]; // openssl's names are OCI's
      const hash = getHashes().includes(algorithm) ? createHash(algorithm) : null;
      begun.set(id, { algorithm, hash, size: 0 });
    } else if (kind === "data") {
      if (!open || rest[0] !== open.size) refuse(`data of ${id} at ${rest[0]}`);
      open.hash?.update(rest[1]);
      open.size += rest[1].length;
    } else if (kind === "end") {
      const [size, digest] = rest;
      if (!open || size !== open.size) refuse(`end of ${id} with ${size} bytes`);
      const got = digest && open.hash ? `${open.algorithm}:${open.hash.digest("hex")}` : digest;
      if (got !== digest) refuse(`content of ${id} is ${got}`);
      begun.delete(id);
      console.log(`${id} ${digest ?? "-"} ${size}`);
    } else if (kind === "error") {
      if (id > 0 && !open && !asked.has(id)) refuse(`error of ${id}`);
      console.log(`${id} ${rest[0]} ${open?.size ?? 0}`);
      console.error(`${id}: ${JSON.stringify(rest[1])}`); // quoted: its text may be the registry's
      asked.delete(id);
      begun.delete(id);
      isGood = false;
    }
  }
  return last === "bye" && isGood && asked.size + begun.size === 0;
}

async function run(remote, lines) {
  const worker = spawn(process.env.MULTI_FETCH ?? "multi-fetch", [remote], { stdio: ["pipe", "pipe", "inherit"] });
  const ended = new Promise((resolve, reject) => worker.on("close", resolve).on("error", reject));
  worker.stdin.on("error", () => {}); // a worker that is gone shows at stdout and in its status
  worker.stdin.end(lines.map((line) => `${line}\n`).join("")); // Node writes it while we read
  const [asked, begun] = [new Set(lines.map((_, index) => index + 1)), new Map()];
  const isGood = await session(worker.stdout, asked, begun).catch((error) => {
    console.error(error.message);
    worker.kill();
  });
  for (const id of [...begun.keys(), ...asked]) console.log(`${id} unanswered 0`);
  return (await ended) || (isGood ? 0 : 1);
}

process.stdout.on("error", () => process.exit(1)); // nobody reads us any more
const [remote, ...lines] = process.argv.slice(2);
try {
  if (remote === "--decode") for await (const frame of frames(process.stdin)) console.log(json(frame));
  else if (lines.length && !lines.some((line) => /[\x00-\x1f\x7f]|^ *(#|!|$)/.test(line)))
    process.exitCode = await run(remote, lines);
  else process.exitCode = console.error("usage: node parent.mjs <remote> <request line>...") ?? 2;
} catch (error) {
  console.error(error.message);
  process.exitCode = 1;
}
