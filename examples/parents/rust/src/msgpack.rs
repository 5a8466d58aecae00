//! As much of MessagePack as a frame needs, so that this example needs no crate (`rmpv` is one).

pub enum Value<'a> {
    Nil,
    Bool(bool),
    Int(i64),
    Float(f64),
    Str(&'a str),
    Bin(&'a [u8]),
    Array(Vec<Value<'a>>),
    Map(Vec<(Value<'a>, Value<'a>)>),
    /// What protocol version 1 has nowhere: ext, bad UTF-8, an integer of 2^63 and above.
    Other,
}

use Value::{Array, Bin, Bool, Float, Int, Map, Nil, Other, Str};

/// What protocol.md calls a type.
pub fn family(value: &Value) -> &'static str {
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

/// The one value that is all of `payload`.
pub fn read(payload: &[u8]) -> Result<Value<'_>, String> {
    let mut reader = Reader(payload);
    let value = reader.value(0)?;
    if reader.0.is_empty() {
        Ok(value)
    } else {
        Err("bytes behind the array".into())
    }
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, size: u64) -> Result<&'a [u8], String> {
        if size > self.0.len() as u64 {
            return Err("a value is cut".into());
        }
        let (taken, rest) = self.0.split_at(size as usize);
        self.0 = rest;
        Ok(taken)
    }

    fn number(&mut self, width: u64) -> Result<u64, String> {
        Ok(self.take(width)?.iter().fold(0, |sum, byte| sum << 8 | u64::from(*byte)))
    }

    fn value(&mut self, depth: u8) -> Result<Value<'a>, String> {
        let first = self.number(1)?;
        Ok(match first {
            0x00..=0x7f => Int(first as i64),
            0x80..=0x8f => self.map(first & 15, depth)?,
            0x90..=0x9f => self.array(first & 15, depth)?,
            0xa0..=0xbf => self.text(first & 31)?,
            0xc0 => Nil,
            0xc2 | 0xc3 => Bool(first == 0xc3),
            0xc4..=0xc6 => {
                let size = self.number(1 << (first - 0xc4))?;
                Bin(self.take(size)?)
            }
            0xc7..=0xc9 => {
                let size = self.number(1 << (first - 0xc7))?;
                self.take(size + 1).map(|_| Other)?
            }
            0xca => Float(f32::from_bits(self.number(4)? as u32).into()),
            0xcb => Float(f64::from_bits(self.number(8)?)),
            0xcc..=0xcf => i64::try_from(self.number(1 << (first - 0xcc))?).map_or(Other, Int),
            0xd0..=0xd3 => {
                let width = 1 << (first - 0xd0);
                let unused = 64 - 8 * width;
                Int((self.number(width)? << unused) as i64 >> unused)
            }
            0xd4..=0xd8 => self.take((1 << (first - 0xd4)) + 1).map(|_| Other)?,
            0xd9..=0xdb => self.number(1 << (first - 0xd9)).and_then(|size| self.text(size))?,
            0xdc | 0xdd => self.number(2 << (first & 1)).and_then(|n| self.array(n, depth))?,
            0xde | 0xdf => self.number(2 << (first & 1)).and_then(|n| self.map(n, depth))?,
            0xe0..=0xff => Int(i64::from(first as u8 as i8)),
            _ => return Err("the reserved byte 0xc1".into()),
        })
    }

    fn text(&mut self, size: u64) -> Result<Value<'a>, String> {
        Ok(std::str::from_utf8(self.take(size)?).map_or(Other, Str))
    }

    // A count is only a claim: nothing is allocated for what has not come.
    fn array(&mut self, count: u64, depth: u8) -> Result<Value<'a>, String> {
        if depth > 16 {
            return Err("nested too deep".into());
        }
        (0..count).map(|_| self.value(depth + 1)).collect::<Result<_, _>>().map(Array)
    }

    fn map(&mut self, count: u64, depth: u8) -> Result<Value<'a>, String> {
        if depth > 16 {
            return Err("nested too deep".into());
        }
        let mut pair = |_| Ok((self.value(depth + 1)?, self.value(depth + 1)?));
        (0..count).map(&mut pair).collect::<Result<_, _>>().map(Map)
    }
}
