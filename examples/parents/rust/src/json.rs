//! Values as JSON: what `--decode` prints.

use crate::msgpack::Value::{self, *};
use crate::sha256::Sha256;

/// A value as tests/vectors/README.md writes it; an error if a key is no str.
pub fn json(value: &Value) -> Result<String, String> {
    let list = |values: &[Value]| values.iter().map(json).collect::<Result<Vec<_>, _>>();
    Ok(match value {
        Nil => "null".into(),
        Bool(is_true) => is_true.to_string(),
        Int(number) => number.to_string(),
        Float(number) => format!("{number:?}"),
        Str(text) => quoted(text),
        Bin(bytes) => content(bytes),
        Array(values) => format!("[{}]", list(values)?.join(",")),
        Map(pairs) => {
            let pair = |(name, value): &(Value, Value)| match name {
                Str(name) => Ok(format!("{}:{}", quoted(name), json(value)?)),
                _ => Err("a map's key is no str".to_string()),
            };
            format!("{{{}}}", pairs.iter().map(pair).collect::<Result<Vec<_>, _>>()?.join(","))
        }
        Other => "null".into(), // within a field that version 1 knows
    })
}

fn content(bytes: &[u8]) -> String {
    if bytes.len() <= 1024 {
        return format!("{{\"base64\":\"{}\"}}", base64(bytes));
    }
    let mut hash = Sha256::new();
    hash.update(bytes);
    format!("{{\"size\":{},\"sha256\":\"{}\"}}", bytes.len(), hash.hex())
}

pub fn quoted(text: &str) -> String {
    let escaped = |letter: char| match letter {
        '"' | '\\' => format!("\\{letter}"),
        _ if letter.is_control() => format!("\\u{:04x}", letter as u32),
        _ => letter.to_string(),
    };
    format!("\"{}\"", text.chars().map(escaped).collect::<String>())
}

/// RFC 4648, section 4.
fn base64(bytes: &[u8]) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for three in bytes.chunks(3) {
        let bits = three.iter().fold(0, |sum, byte| sum << 8 | u32::from(*byte)) << (8 * (3 - three.len()));
        for i in 0..4 {
            let letter = LETTERS[(bits >> (18 - 6 * i)) as usize & 63] as char;
            text.push(if i > three.len() { '=' } else { letter });
        }
    }
    text
}
