//! protocol.md, section 3: a stream of bytes becomes frames.

use crate::msgpack::read;
use crate::msgpack::Value::{self, *};
use std::io::Read;

const KINDS: [(&str, &[&str]); 6] = [
    ("hello", &["int", "str", "int", "int", "array", "str"]),
    ("begin", &["int", "str", "map", "str", "int nil"]),
    ("data", &["int", "int", "bin"]),
    ("end", &["int", "int", "str nil", "int"]),
    ("error", &["int", "str", "str", "bool", "map"]),
    ("bye", &["int", "int", "int", "int", "map"]),
];
const DESCRIPTOR: [&str; 8] =
    ["mediaType", "digest", "size", "urls", "annotations", "data", "artifactType", "platform"];

/// Calls `each` with every frame of a known kind, as `[kind, element, ...]`.
pub fn each_frame(
    input: &mut impl Read,
    mut each: impl FnMut(&[Value]) -> Result<(), String>,
) -> Result<(), String> {
    let mut limit = 589_824;
    while let Some(payload) = next_payload(input, limit)? {
        if let Some(frame) = parse(&payload)? {
            if let [Str("hello"), _, _, _, Int(max_frame), ..] = frame[..] {
                limit = max_frame;
            }
            each(&frame)?;
        }
    }
    Ok(())
}

fn next_payload(input: &mut impl Read, limit: i64) -> Result<Option<Vec<u8>>, String> {
    let head = up_to(input, 4)?;
    if head.is_empty() {
        return Ok(None);
    }
    let length = u32::from_be_bytes(head.try_into().map_err(|_| "the stream ends within a length")?);
    if i64::from(length) > limit {
        return Err(format!("a frame of {length} bytes is longer than {limit}"));
    }
    let payload = up_to(input, length.into())?;
    if payload.len() < length as usize {
        return Err("the stream ends within a frame".into());
    }
    Ok(Some(payload))
}

fn up_to(input: &mut impl Read, size: u64) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    input.take(size).read_to_end(&mut bytes).map_err(|error| error.to_string())?;
    Ok(bytes)
}

fn parse(payload: &[u8]) -> Result<Option<Vec<Value<'_>>>, String> {
    let Array(mut frame) = read(payload)? else { return Err("a payload is no array".into()) };
    let Some(Str(kind)) = frame.first() else { return Err("a frame has no kind".into()) };
    let kind = *kind;
    let Some((_, types)) = KINDS.iter().find(|(name, _)| *name == kind) else { return Ok(None) };
    frame.truncate(1 + types.len());
    let is_typed = |(index, types): (usize, &&str)| {
        frame.get(index + 1).is_some_and(|value| types.split(' ').any(|name| name == family(value)))
    };
    if !types.iter().enumerate().all(is_typed) || !frame.iter().all(is_known) {
        return Err(format!("a frame {kind} has a wrong element"));
    }
    match &mut frame[..] {
        [Str("begin"), _, _, Map(descriptor), ..] => {
            descriptor.retain(|(name, _)| matches!(name, Str(name) if DESCRIPTOR.contains(name)));
            let has = |wanted: &str, types: &[&str]| {
                let is_it = |(name, value): &(Value, Value)| {
                    matches!(name, Str(name) if *name == wanted) && types.contains(&family(value))
                };
                descriptor.iter().any(is_it)
            };
            if !has("mediaType", &["str"]) || !has("digest", &["str"]) || !has("size", &["int", "nil"]) {
                return Err("a descriptor lacks a field".into());
            }
        }
        [Str("hello"), _, _, _, _, Array(features), _] if !features.iter().all(|f| family(f) == "str") => {
            return Err("a feature is no str".into());
        }
        _ => {}
    }
    Ok(Some(frame))
}

fn family(value: &Value) -> &'static str {
    match value {
        Nil => "nil",
        Bool(_) => "bool",
        Int(_) => "int",
        Float(_) => "float",
        Str(_) => "str",
        Bin(_) => "bin",
        Array(_) => "array",
        Map(_) => "map",
        Other => "other",
    }
}

fn is_known(value: &Value) -> bool {
    match value {
        Array(values) => values.iter().all(is_known),
        Map(pairs) => pairs.iter().all(|(name, value)| family(name) == "str" && is_known(value)),
        other => family(other) != "other",
    }
}

/// A descriptor's field, if it is text.
pub fn text<'a>(descriptor: &'a [(Value<'a>, Value<'a>)], wanted: &str) -> &'a str {
    let found = descriptor.iter().find_map(|pair| match pair {
        (Str(name), Str(value)) if *name == wanted => Some(*value),
        _ => None,
    });
    found.unwrap_or("")
}
