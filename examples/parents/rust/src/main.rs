//! A parent of multi-fetch in Rust, written from protocol.md, with the standard library alone. Its
//! content goes nowhere: it is only verified, where its digest is sha256.
//!
//!     parent <remote> <object>...   each is a line of its own: latest "latest size:5"
//!                                   prints: <id> <digest, - or error code> <size>
//!     parent --decode < stream      prints one JSON line a frame
//!
//! Exit status: 0 all succeeded, 1 something failed, 2 usage, or what the worker ended with.
//! The worker is $MULTI_FETCH, or multi-fetch on the PATH.

mod frames;
mod json;
mod msgpack;
mod session;
mod sha256;

use frames::each_frame;
use session::{say, Session};
use std::error::Error;
use std::io::{stdin, BufReader, Write};
use std::process::{exit, Command, Stdio};

fn run(remote: &str, lines: &[String]) -> Result<i32, Box<dyn Error>> {
    let program = std::env::var("MULTI_FETCH").unwrap_or("multi-fetch".into());
    let piped = Stdio::piped;
    let mut worker = Command::new(program).arg(remote).stdin(piped()).stdout(piped()).spawn()?;
    let mut input = worker.stdin.take().ok_or("no stdin")?;
    let requests: String = lines.iter().map(|line| line.clone() + "\n").collect();
    // A thread of its own: reading never waits for writing. A worker that is gone shows at stdout.
    std::thread::spawn(move || input.write_all(requests.as_bytes()));
    let asked = (1..=lines.len() as i64).collect();
    let mut session = Session { asked, ..Session::default() };
    let mut output = BufReader::new(worker.stdout.take().ok_or("no stdout")?);
    if let Err(why) = each_frame(&mut output, |frame| session.take(frame)) {
        eprintln!("stopped: {why}");
        worker.kill()?;
    }
    let unanswered: Vec<_> = session.begun.keys().chain(&session.asked).collect();
    unanswered.iter().try_for_each(|id| say(&format!("{id} unanswered 0")))?;
    let is_good = session.last == "bye" && session.failed + unanswered.len() == 0;
    Ok(worker.wait()?.code().filter(|code| *code > 0).unwrap_or(i32::from(!is_good)))
}

fn decode() -> Result<i32, Box<dyn Error>> {
    each_frame(&mut stdin().lock(), |frame| {
        let elements: Result<Vec<_>, _> = frame.iter().map(json::json).collect();
        say(&format!("[{}]", elements?.join(",")))
    })?;
    Ok(0)
}

fn main() {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let is_request = |line: &String| {
        !line.contains(char::is_control) && !line.trim().is_empty() && !line.trim().starts_with(['#', '!'])
    };
    let result = match &words[..] {
        [flag] if flag == "--decode" => decode(),
        [remote, lines @ ..] if !lines.is_empty() && lines.iter().all(is_request) => run(remote, lines),
        _ => {
            eprintln!("usage: parent <remote> <request line>...");
            exit(2)
        }
    };
    exit(result.unwrap_or_else(|error| {
        eprintln!("{error}");
        1
    }));
}
