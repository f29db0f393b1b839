//! The `virtio_mmio.device=` words that QEMU's microvm adds to the command line.

use alloc::format;
use alloc::string::String;
use core::str::FromStr;

/// A virtio device behind a memory-mapped register window, in the notation of Linux:
/// `size@base:interrupt`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VirtioMmioDevice {
    /// Bytes of the register window.
    pub size: u64,
    /// Its physical address.
    pub base: u64,
    /// The interrupt line (a global system interrupt).
    pub interrupt: u32,
}

impl FromStr for VirtioMmioDevice {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let problem = || format!("{text:?} is not of the form size@base:interrupt");
        let (size, rest) = text.split_once('@').ok_or_else(problem)?;
        let (base, rest) = rest.split_once(':').ok_or_else(problem)?;
        // Linux allows a device number at the end.
        let interrupt = rest.split(':').next().unwrap_or(rest);
        Ok(Self {
            size: parse_size(size).ok_or_else(problem)?,
            base: parse_number(base).ok_or_else(problem)?,
            interrupt: interrupt.parse().map_err(|_| problem())?,
        })
    }
}

fn parse_size(text: &str) -> Option<u64> {
    let (number, unit) = match text.as_bytes().last()? {
        b'K' | b'k' => (&text[..text.len() - 1], 1 << 10),
        b'M' | b'm' => (&text[..text.len() - 1], 1 << 20),
        _ => (text, 1),
    };
    parse_number(number)?.checked_mul(unit)
}

fn parse_number(text: &str) -> Option<u64> {
    match text.strip_prefix("0x") {
        Some(hexadecimal) => u64::from_str_radix(hexadecimal, 16).ok(),
        None => text.parse().ok(),
    }
}
