//! protocol.md, section 4: from the line to the terminal frame.

use crate::frames::text;
use crate::json::quoted;
use crate::msgpack::Value::{self, *};
use crate::sha256::Sha256;
use std::collections::{HashMap, HashSet};
use std::io::{stdout, Write};

/// An object between its begin and its end.
pub struct Open {
    hash: Option<Sha256>,
    size: i64,
}

/// What every id has come to.
#[derive(Default)]
pub struct Session {
    pub asked: HashSet<i64>,
    pub begun: HashMap<i64, Open>,
    pub last: String,
    pub failed: usize,
}

impl Session {
    pub fn take(&mut self, frame: &[Value]) -> Result<(), String> {
        let [Str(kind), Int(id), ..] = frame else { return Err("a frame has no id".into()) };
        if (*kind == "hello") != self.last.is_empty() || self.last == "bye" {
            return Err(format!("{kind} is out of place"));
        }
        self.last = kind.to_string();
        match &frame[1..] {
            [version, ..] if *kind == "hello" && !matches!(version, Int(1)) => {
                return Err("an unknown version".into());
            }
            [_, _, Map(descriptor), _, _] => {
                if !self.asked.remove(id) && *id >= 0 {
                    return Err(format!("begin of {id}"));
                }
                let is_sha256 = text(descriptor, "digest").starts_with("sha256:");
                let open = Open { hash: is_sha256.then(Sha256::new), size: 0 };
                if self.begun.insert(*id, open).is_some() {
                    return Err(format!("second begin of {id}"));
                }
            }
            [_, Int(offset), Bin(content)] => match self.begun.get_mut(id) {
                Some(open) if *offset == open.size => {
                    open.hash.iter_mut().for_each(|hash| hash.update(content));
                    open.size += content.len() as i64;
                }
                _ => return Err(format!("data of {id} at {offset}")),
            },
            [_, Int(size), digest, _] if *kind == "end" => {
                let open = self.begun.remove(id).filter(|open| open.size == *size);
                let open = open.ok_or(format!("end of {id} with {size} bytes"))?;
                let digest = if let Str(digest) = digest { digest } else { "-" };
                if let (Some(hash), "sha256") = (open.hash, digest.split(':').next().unwrap_or("")) {
                    let got = format!("sha256:{}", hash.hex());
                    if got != digest {
                        return Err(format!("the content of {id} is {got}"));
                    }
                }
                say(&format!("{id} {digest} {size}"))?;
            }
            [_, Str(code), Str(message), _, _] => {
                let open = self.begun.remove(id);
                if !self.asked.remove(id) && open.is_none() && *id > 0 {
                    return Err(format!("error of {id}"));
                }
                say(&format!("{id} {code} {}", open.map_or(0, |open| open.size)))?;
                eprintln!("{id}: {}", quoted(message)); // its text may be the registry's
                self.failed += 1;
            }
            _ => {}
        }
        Ok(())
    }
}

/// A line on stdout; an error, and no panic, if nobody reads it.
pub fn say(line: &str) -> Result<(), String> {
    writeln!(stdout(), "{line}").map_err(|error| format!("stdout: {error}"))
}
