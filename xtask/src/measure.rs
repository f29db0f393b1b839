//! The figures measured on the way, and their table.

use std::fmt::Write as _;
use std::sync::Mutex;

/// Figures in the order in which they were measured. May be shared between threads.
#[derive(Debug, Default)]
pub(crate) struct Measurements {
    rows: Mutex<Vec<(String, String)>>,
}

impl Measurements {
    /// Notes a figure, with its unit.
    pub(crate) fn note(&self, what: &str, figure: impl ToString) {
        let row = (what.to_owned(), figure.to_string());
        // A thread that panicked while it held the lock left whole rows.
        self.rows
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner())
            .push(row);
    }

    /// The table, or nothing where nothing was measured.
    pub(crate) fn table(&self) -> String {
        let rows = self
            .rows
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner());
        let width = rows
            .iter()
            .map(|(what, _)| what.chars().count())
            .max()
            .unwrap_or(0);
        let mut text = String::new();
        for (what, figure) in rows.iter() {
            // Writing to a String cannot fail.
            let _ = writeln!(text, "{what:<width$}  {figure}");
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_stand_in_a_column() {
        let measurements = Measurements::default();
        assert_eq!(measurements.table(), "");
        measurements.note("ELF size of http", "200 KiB");
        measurements.note("least memory", 8);
        assert_eq!(
            measurements.table(),
            "ELF size of http  200 KiB\nleast memory      8\n"
        );
    }
}
