//! protocol.md, section 3: a stream of bytes becomes frames.

use crate::msgpack::Value::{self, *};
use crate::msgpack::{family, read};
use std::io::Read;

const KINDS: [(&str, &[&str]); 6] = [
    ("hello", &["int", "str", "int", "int", "array", "str"]),
    ("begin", &["int", "str", "map", "str", "int nil"]),
    ("data", &["int", "int", "bin"]),
    ("end", &["int", "int", "str nil", "int"]),
    ("error", &["int", "str", "str", "bool", "map"]),
    ("bye", &["int", "int", "int", "int", "map"]),
];
const DESCRIPTOR: [(&str, &[&str]); 4] = [
    ("str", &["mediaType", "digest", "data", "artifactType"]),
    ("int nil", &["size"]),
    ("array", &["urls"]),
    ("map", &["annotations", "platform"]),
];
const FACT: &str = "int float str";

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
    let is_typed =
        |(index, types): (usize, &&str)| frame.get(index + 1).is_some_and(|value| is_one_of(value, types));
    if !types.iter().enumerate().all(is_typed) {
        return Err(format!("a frame {kind} has a wrong element"));
    }
    match &mut frame[..] {
        [Str("begin"), _, _, Map(descriptor), ..] => {
            descriptor.retain(is_field);
            let has =
                |wanted| descriptor.iter().any(|(name, _)| matches!(name, Str(name) if *name == wanted));
            if !has("mediaType") || !has("digest") || !has("size") {
                return Err("a descriptor lacks a field".into());
            }
        }
        [Str("hello"), _, _, _, _, Array(features), _] if !features.iter().all(|f| family(f) == "str") => {
            return Err("a feature is no str".into());
        }
        [.., Map(detail)] => detail.retain(is_fact),
        _ => {}
    }
    Ok(Some(frame))
}

fn is_one_of(value: &Value, types: &str) -> bool {
    types.split(' ').any(|name| name == family(value))
}

fn is_field((name, value): &(Value, Value)) -> bool {
    let is_it = |(types, names): &(&str, &[&str])| {
        matches!(name, Str(name) if names.contains(name)) && is_one_of(value, types)
    };
    DESCRIPTOR.iter().any(is_it)
}

fn is_fact((name, value): &(Value, Value)) -> bool {
    let of_one = |value: &Value| is_one_of(value, FACT);
    let of_all = |value: &Value| matches!(value, Map(all) if all.iter().all(|(_, each)| of_one(each)));
    family(name) == "str" && (of_one(value) || of_all(value))
}

/// A descriptor's field, if it is text.
pub fn text<'a>(descriptor: &'a [(Value<'a>, Value<'a>)], wanted: &str) -> &'a str {
    let found = descriptor.iter().find_map(|pair| match pair {
        (Str(name), Str(value)) if *name == wanted => Some(*value),
        _ => None,
    });
    found.unwrap_or("")
}
