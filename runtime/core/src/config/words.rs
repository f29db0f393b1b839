//! Splits a command line into words and words into keys and values.

use alloc::borrow::ToOwned;
use alloc::string::String;
use alloc::vec::Vec;

use super::Complaint;

/// The words of `command_line`: key and value, or what is wrong with the word.
pub(super) fn split(
    command_line: &[u8],
) -> impl Iterator<Item = Result<(String, String), Complaint>> {
    let mut rest = command_line;
    core::iter::from_fn(move || {
        while let [space, tail @ ..] = rest
            && is_space(*space)
        {
            rest = tail;
        }
        if rest.is_empty() {
            return None;
        }
        let (word, quote_is_open, tail) = take_word(rest);
        rest = tail;
        Some(parse_word(word, quote_is_open))
    })
}

/// Takes the word that starts `line`: its bytes without quotes, whether a quote was left open,
/// and what follows.
fn take_word(line: &[u8]) -> (Vec<u8>, bool, &[u8]) {
    let mut word = Vec::new();
    let mut quoted = false;
    for (index, &byte) in line.iter().enumerate() {
        match byte {
            b'"' => quoted = !quoted,
            _ if is_space(byte) && !quoted => return (word, false, &line[index..]),
            _ => word.push(byte),
        }
    }
    (word, quoted, &[])
}

fn parse_word(word: Vec<u8>, quote_is_open: bool) -> Result<(String, String), Complaint> {
    let complaint = |text: &str, problem: &str| {
        let (key, value) = text.split_once('=').unwrap_or((text, ""));
        Complaint {
            key: key.to_owned(),
            value: value.to_owned(),
            problem: problem.to_owned(),
        }
    };
    let text = match String::from_utf8(word) {
        Ok(text) => text,
        Err(error) => {
            let text = String::from_utf8_lossy(error.as_bytes());
            return Err(complaint(&text, "not UTF-8"));
        }
    };
    if quote_is_open {
        return Err(complaint(&text, "the double quote is never closed"));
    }
    match text.split_once('=') {
        Some(("", _)) => Err(complaint(&text, "no key before the equals sign")),
        Some((key, value)) => Ok((key.to_owned(), value.to_owned())),
        None => Err(complaint(&text, "not of the form key=value")),
    }
}

/// White space of ASCII, and NUL: some loaders pad with it.
fn is_space(byte: u8) -> bool {
    byte.is_ascii_whitespace() || byte == 0
}
