//! The `log` crate's messages, on the console.

use log::{LevelFilter, Log, Metadata, Record};
use rekernel_core::config::LogLevels;
use spin::Once;

use crate::{console, machine};

static LEVELS: Once<LogLevels> = Once::new();

/// Sends messages to the console from now on, as far as `levels` let them through.
pub(crate) fn start(levels: LogLevels) {
    let levels = LEVELS.call_once(|| levels);
    if log::set_logger(&ConsoleLogger).is_ok() {
        log::set_max_level(levels.most_verbose());
    }
}

struct ConsoleLogger;

impl Log for ConsoleLogger {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        let level = LEVELS
            .get()
            .map_or(LevelFilter::Info, |levels| levels.level(metadata.target()));
        metadata.level() <= level
    }

    fn log(&self, record: &Record<'_>) {
        if !self.enabled(record.metadata()) {
            return;
        }
        let time = machine::chosen()
            .map(|machine| machine.now())
            .unwrap_or_default();
        console::write_line(format_args!(
            "[{:4}.{:06}] {:<5} {}: {}",
            time.as_secs(),
            time.subsec_micros(),
            record.level(),
            record.target(),
            record.args()
        ));
    }

    fn flush(&self) {}
}
