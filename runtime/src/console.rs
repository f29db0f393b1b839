//! Text on the guest's console: of the machine once there is one, of the debug port before.

use core::fmt::{self, Write};

use crate::{crash, machine};

/// Writes one line.
pub(crate) fn write_line(line: fmt::Arguments<'_>) {
    let mut buffer = Buffer {
        bytes: [0; 256],
        used: 0,
    };
    // A value whose formatting fails is cut short; the line still ends.
    let _ = buffer.write_fmt(line);
    let _ = buffer.write_str("\n");
    buffer.flush();
}

/// Gathers pieces of text, because each write to the console costs an exit to the host.
struct Buffer {
    bytes: [u8; 256],
    used: usize,
}

impl Buffer {
    fn flush(&mut self) {
        let bytes = &self.bytes[..self.used];
        match machine::chosen() {
            Some(machine) if crash::is_under_way() => machine.write_last_words(bytes),
            Some(machine) => machine.write_console(bytes),
            None => pvh_boot::debug_port::write(bytes),
        }
        self.used = 0;
    }
}

impl fmt::Write for Buffer {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for &byte in text.as_bytes() {
            if self.used == self.bytes.len() {
                self.flush();
            }
            self.bytes[self.used] = byte;
            self.used += 1;
        }
        Ok(())
    }
}
