// What @msgpack/msgpack does not tell: it takes 1.0 for 1, and lets bad UTF-8 pass. protocol.md,
// section 3, wants both refused, so the formats of a payload are looked at before it is decoded.

export const KINDS = {
  hello: ["int", "str", "int", "int", "array", "str"],
  begin: ["int", "str", "map", "str", "int/nil"],
  data: ["int", "int", "bin"],
  end: ["int", "int", "str/nil", "int"],
  error: ["int", "str", "str", "bool", "map"],
  bye: ["int", "int", "int", "int", "map"],
};
const FIELDS = {
  mediaType: "str", digest: "str", size: "int/nil",
  urls: "array", annotations: "map", data: "str", artifactType: "str", platform: "map",
};
const FACT = "int/float/str";

export const refuse = (why) => { throw new Error(`stream refused: ${why}`); };
const utf8 = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

// The kind of the frame in `payload`, and which names count in its map if it has one; or null if
// its kind is unknown. Throws if it is no frame.
export function shape(payload) {
  let at = 0;
  let kind = "";
  const take = (size) => {
    if (at + size > payload.length) refuse("a value is cut");
    return payload.subarray(at, (at += size));
  };
  const number = (width) => take(width).readUIntBE(0, width);
  const text = (size) => {
    const bytes = take(size);
    try {
      return ["str", utf8.decode(bytes)];
    } catch {
      return ["no UTF-8"]; // which does no harm where nothing is known
    }
  };
  // Goes over one value; gives its family, and of a str its text, of an array its elements.
  function value(depth) {
    const first = number(1);
    const many = (family, count) => {
      if (depth > 16) refuse("too deep");
      const inner = [];
      for (; count > 0; count--) {
        inner.push(value(depth + 1));
        if (depth > 0 || inner.length > 1) continue;
        if (inner[0][0] !== "str") refuse("no kind");
        kind = Object.hasOwn(KINDS, inner[0][1]) ? inner[0][1] : null;
      }
      return [family, inner];
    };
    if (first < 0x80 || first >= 0xe0) return ["int"];
    if (first < 0x90) return many("map", 2 * (first & 15));
    if (first < 0xa0) return many("array", first & 15);
    if (first < 0xc0) return text(first & 31);
    if (first === 0xc0) return ["nil"];
    if (first === 0xc1) return refuse("the reserved byte");
    if (first < 0xc4) return ["bool"];
    if (first < 0xc7) return ["bin", take(number(1 << (first - 0xc4)))];
    if (first < 0xca) return ["ext", take(number(1 << (first - 0xc7)) + 1)];
    if (first < 0xcc) return ["float", take(4 << (first - 0xca))];
    if (first < 0xd4) return first === 0xcf && payload[at] > 127 ? [take(8) && "big"] : [take(1 << (first & 3)) && "int"];
    if (first < 0xd9) return ["ext", take((1 << (first - 0xd4)) + 1)];
    if (first < 0xdc) return text(number(1 << (first - 0xd9)));
    return many(first < 0xde ? "array" : "map", number(2 << (first & 1)) * (first < 0xde ? 1 : 2));
  }
  const [family, elements] = value(0);
  if (family !== "array" || !elements.length || at !== payload.length) refuse("a payload is no frame");
  if (kind === null) return null;
  const is = ([found], wanted) => wanted.split("/").includes(found);
  KINDS[kind].forEach((wanted, index) => {
    if (!is(elements[index + 1] ?? ["nothing"], wanted)) refuse(`${kind} has no ${wanted} at ${index}`);
  });
  if (kind === "hello" && !elements[5][1].every((feature) => is(feature, "str"))) refuse("features");
  const isKnown = kind === "begin"
    ? (name, found) => Object.hasOwn(FIELDS, name) && is(found, FIELDS[name])
    : (_, found) => is(found, FACT) || (found[0] === "map" && found[1].every((each) => is(each, FACT)));
  const entries = elements[1 + KINDS[kind].indexOf("map")][1];
  const names = new Set(Array.isArray(entries) ? entries.flatMap(([of, name], index) =>
    index % 2 === 0 && of === "str" && isKnown(name, entries[index + 1]) ? [name] : []) : []);
  const missing = ["mediaType", "digest", "size"].filter((name) => kind === "begin" && !names.has(name));
  if (missing.length) refuse(`a descriptor without ${missing}`);
  return { kind, names };
}
