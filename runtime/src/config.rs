//! What the command line says.

use rekernel_core::config::Settings;
use spin::Once;

static SETTINGS: Once<Settings> = Once::new();

/// The value of an application's key on the command line, or `None` if it is not there.
///
/// The keys are declared with `#[rekernel::main(keys = ["port"])]`; others are reported on the
/// console as unknown at start and are not found here.
pub fn value(key: &str) -> Option<&'static str> {
    SETTINGS.get()?.value(key)
}

/// Remembers the settings for the whole life of the guest. The first call counts.
pub(crate) fn remember(settings: Settings) -> &'static Settings {
    SETTINGS.call_once(|| settings)
}
