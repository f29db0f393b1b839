//! What makes no sense is said once, not at every look.

use alloc::rc::Rc;
use alloc::string::String;
use core::cell::RefCell;
use core::fmt::{self, Write as _};

/// Complaints about one node. Clones share what was said.
#[derive(Clone, Debug, Default)]
pub(super) struct Nonsense(Rc<RefCell<String>>);

impl Nonsense {
    /// Logs `line`, unless it was the last one.
    pub(super) fn warn(&self, line: fmt::Arguments<'_>) {
        let mut last = self.0.borrow_mut();
        let mut comparison = Comparison(&last);
        let is_known = comparison.write_fmt(line).is_ok() && comparison.0.is_empty();
        if !is_known {
            log::warn!("{line}");
            last.clear();
            // Cannot fail: it is written to memory.
            let _ = last.write_fmt(line);
        }
    }
}

/// What is left of a text after what was written to it; fails at the first difference.
struct Comparison<'a>(&'a str);

impl fmt::Write for Comparison<'_> {
    fn write_str(&mut self, part: &str) -> fmt::Result {
        self.0 = self.0.strip_prefix(part).ok_or(fmt::Error)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_line_is_remembered() {
        let nonsense = Nonsense::default();
        let other = nonsense.clone();
        for line in ["one", "one", "on", "ones", ""] {
            nonsense.warn(format_args!("{line}{}", 7));
            assert_eq!(*other.0.borrow(), alloc::format!("{line}7"));
        }
    }
}
