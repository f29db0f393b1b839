//! `xl sysrq NAME KEY`: reports on the console.

use xen::sysrq::Keys;

use super::Store;
use crate::console::write_line;
use crate::report::Section;

/// Answers keys from now on.
pub(super) async fn answer(store: Store) {
    let mut keys = Keys::new(store.clone());
    loop {
        match keys.next().await {
            Ok(key) => answer_key(&key, &store),
            Err(error) => {
                log::error!("no sysrq any more: {error}");
                return;
            }
        }
    }
}

fn answer_key(key: &str, store: &Store) {
    let section = Section::ALL
        .into_iter()
        .find(|section| key.chars().eq([section.key()]));
    let Some(section) = section else {
        let known = Section::ALL.map(|section| (section.key(), section.title()));
        // What is not a character of a key is not printed: it may be anything.
        write_line(format_args!(
            "rekernel: sysrq: known keys are {}",
            Known(&known)
        ));
        return;
    };
    let title = section.title();
    write_line(format_args!("rekernel: sysrq {}: {title}", section.key()));
    super::report(section, store, &mut |entry| {
        write_line(format_args!("rekernel: {title}: {entry}"));
    });
    write_line(format_args!("rekernel: sysrq {}: end", section.key()));
}

struct Known<'a>(&'a [(char, &'static str)]);

impl core::fmt::Display for Known<'_> {
    fn fmt(&self, formatter: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        for (number, (key, title)) in self.0.iter().enumerate() {
            let comma = if number == 0 { "" } else { ", " };
            write!(formatter, "{comma}{key} ({title})")?;
        }
        Ok(())
    }
}
