//! Golden vectors: what Xen's own headers say, as `vectors/abi.c` printed it.
//!
//! For tests that hold constants, layouts and codecs against the authority. The text is
//! committed, so that the tests need no headers; one test makes it anew where gcc and the
//! headers are installed.
//!
//! ```
//! use xen_proto::vectors;
//! assert_eq!(vectors::constant("SHUTDOWN_crash"), 3);
//! assert_eq!(vectors::size("grant_entry_v1"), 8);
//! assert_eq!(vectors::offset("shared_info.evtchn_mask"), 2560);
//! ```

#[cfg(test)]
mod tests;

use alloc::vec::Vec;

/// The whole text. `vectors/abi.c` describes its lines.
pub const TEXT: &str = include_str!("../../vectors/abi.txt");

/// The value of a constant, by its name in the header.
///
/// # Panics
/// If the vectors do not have it: add it to `vectors/abi.c`.
pub fn constant(name: &str) -> i64 {
    number(value("constant", name))
}

/// The size of a type in bytes, by its name in the header without `struct`.
///
/// # Panics
/// If the vectors do not have it.
pub fn size(name: &str) -> usize {
    number(value("size", name)) as usize
}

/// The offset of a field in bytes, as in `offset("vcpu_info.time")`.
///
/// # Panics
/// If the vectors do not have it.
pub fn offset(name: &str) -> usize {
    number(value("offset", name)) as usize
}

/// An example's bytes.
///
/// # Panics
/// If the vectors do not have it.
pub fn bytes(name: &str) -> Vec<u8> {
    let text = value("bytes", name);
    let digits = text.as_bytes().chunks(2);
    digits
        .map(|pair| {
            let pair = core::str::from_utf8(pair).expect("hexadecimal digits are ascii");
            u8::from_str_radix(pair, 16).expect("bytes are hexadecimal")
        })
        .collect()
}

/// The rows of a table.
pub fn rows(table: &str) -> impl Iterator<Item = Vec<i64>> {
    lines("row")
        .filter(move |(name, _)| *name == table)
        .map(|(_, values)| values.split(' ').map(number).collect())
}

/// The names and values of all lines of a kind.
fn lines(kind: &str) -> impl Iterator<Item = (&'static str, &'static str)> {
    TEXT.lines().filter_map(move |line| {
        let rest = line.strip_prefix(kind)?.strip_prefix(' ')?;
        rest.split_once(' ')
    })
}

fn value(kind: &str, name: &str) -> &'static str {
    let found = lines(kind).find(|(known, _)| *known == name);
    let (_, value) = found.unwrap_or_else(|| panic!("the vectors have no {kind} {name}"));
    value
}

fn number(text: &str) -> i64 {
    text.parse().expect("values are decimal")
}
