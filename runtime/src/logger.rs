//! The `log` crate's messages, on the console.

use log::{LevelFilter, Log, Metadata, Record};
use rekernel_core::config::LogLevels;
use spin::Mutex;

use crate::{console, machine};

/// `None` before the start. Nobody logs while he holds it, nor in an interrupt.
static LEVELS: Mutex<Option<LogLevels>> = Mutex::new(None);

/// Sends messages to the console from now on, as far as `levels` let them through.
pub(crate) fn start(levels: LogLevels) {
    // The first call counts; there is no other.
    let _ = log::set_logger(&ConsoleLogger);
    set_levels(levels);
}

/// Lets other messages through from now on.
pub(crate) fn set_levels(levels: LogLevels) {
    log::set_max_level(levels.most_verbose());
    *LEVELS.lock() = Some(levels);
}

/// Which messages are let through.
pub(crate) fn levels() -> LogLevels {
    LEVELS.lock().clone().unwrap_or_default()
}

struct ConsoleLogger;

impl Log for ConsoleLogger {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        let levels = LEVELS.lock();
        let level = levels
            .as_ref()
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
