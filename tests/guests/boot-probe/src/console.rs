//! Lines on the debug port.

use core::fmt;

pub(crate) struct DebugPort;

impl fmt::Write for DebugPort {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        pvh_boot::debug_port::write(text.as_bytes());
        Ok(())
    }
}

/// Prints a line.
macro_rules! say {
    ($($argument:tt)*) => {{
        use core::fmt::Write;
        // The debug port takes everything.
        let _written = writeln!($crate::console::DebugPort, $($argument)*);
    }};
}
pub(crate) use say;
