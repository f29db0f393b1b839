//! What a guest reports, taken apart: sections of entries with fields.

use std::fmt::Write;

use serde_json::{Map, Value};

use crate::console::printable;

/// A report of a guest.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Report {
    entries: Vec<Entry>,
}

/// A line of it.
#[derive(Clone, Debug, PartialEq)]
struct Entry {
    section: String,
    subject: String,
    fields: Vec<(String, String)>,
}

impl Report {
    /// Takes lines apart. What makes no sense as an entry is left out: the guest may be newer.
    pub fn parse(lines: &[String]) -> Self {
        Self {
            entries: lines.iter().filter_map(|line| Entry::parse(line)).collect(),
        }
    }

    /// For scripts: an object for each section, with the entries as a list.
    pub fn json(&self) -> Value {
        let mut sections = Map::new();
        for entry in &self.entries {
            let list = sections
                .entry(entry.section.clone())
                .or_insert_with(|| Value::Array(Vec::new()));
            if let Value::Array(list) = list {
                list.push(entry.json());
            }
        }
        Value::Object(sections)
    }

    /// For people: a heading for each section, a line for each entry. Numbers that grew since an earlier
    /// report, `seconds` before, have their growth per second beside them.
    pub fn text(&self, earlier: Option<(&Report, f64)>) -> String {
        let mut text = String::new();
        let mut section = "";
        for entry in &self.entries {
            if entry.section != section {
                let _ = writeln!(text, "{}", entry.section);
                section = &entry.section;
            }
            let _ = write!(text, "  {}:", entry.subject);
            let before = earlier.and_then(|(report, _)| report.same(entry));
            for (name, value) in &entry.fields {
                let quote = match value.is_empty() || value.contains(' ') {
                    true => "\"",
                    false => "",
                };
                let _ = write!(text, " {name}={quote}{value}{quote}");
                let then = before.and_then(|before| before.number(name));
                if let (Some((_, seconds)), Some(then), Ok(now)) =
                    (earlier, then, value.parse::<u64>())
                    && now > then
                    && seconds > 0.0
                    && !name.starts_with("uptime")
                {
                    let _ = write!(text, " (+{:.0}/s)", (now - then) as f64 / seconds);
                }
            }
            text.push('\n');
        }
        text
    }

    /// The value of a field of the first entry about this that has it.
    pub fn field(&self, section: &str, subject: &str, name: &str) -> Option<&str> {
        let entries = self.entries.iter();
        entries
            .filter(|entry| entry.section == section && entry.subject == subject)
            .find_map(|entry| entry.field(name))
    }

    /// The entry of this report that tells of the same as `other`.
    fn same(&self, other: &Entry) -> Option<&Entry> {
        let names = |entry: &Entry| -> Vec<String> {
            entry.fields.iter().map(|(name, _)| name.clone()).collect()
        };
        self.entries.iter().find(|entry| {
            entry.section == other.section
                && entry.subject == other.subject
                && names(entry) == names(other)
        })
    }
}

impl Entry {
    /// `network vif0: link=up problem="no answer"`.
    fn parse(line: &str) -> Option<Self> {
        let (heading, fields) = line.split_once(": ")?;
        let (section, subject) = heading.split_once(' ')?;
        // A guest may be anybody's, and repeat what strangers sent it.
        let safe = |text: &str| printable(text.as_bytes());
        let fields = fields_of(fields)?.into_iter();
        Some(Self {
            section: safe(section),
            subject: safe(subject),
            fields: fields
                .map(|(name, value)| (safe(&name), safe(&value)))
                .collect(),
        })
    }

    fn field(&self, name: &str) -> Option<&str> {
        let mut fields = self.fields.iter();
        fields
            .find(|(known, _)| known == name)
            .map(|(_, value)| value.as_str())
    }

    fn number(&self, name: &str) -> Option<u64> {
        self.field(name)?.parse().ok()
    }

    fn json(&self) -> Value {
        let mut object = Map::new();
        object.insert("subject".to_owned(), self.subject.clone().into());
        for (name, value) in &self.fields {
            let value = match value.parse::<u64>() {
                Ok(number) => number.into(),
                Err(_) => value.clone().into(),
            };
            object.insert(name.clone(), value);
        }
        Value::Object(object)
    }
}

/// Names and values; a value may be quoted, with `\` before quotes and backslashes.
fn fields_of(text: &str) -> Option<Vec<(String, String)>> {
    let mut fields = Vec::new();
    let mut rest = text.trim_start();
    while !rest.is_empty() {
        let (name, after) = rest.split_once('=')?;
        let value;
        (value, rest) = match after.strip_prefix('"') {
            Some(quoted) => quoted_value(quoted)?,
            None => {
                let (value, rest) = after.split_once(' ').unwrap_or((after, ""));
                (value.to_owned(), rest)
            }
        };
        fields.push((name.to_owned(), value));
        rest = rest.trim_start();
    }
    Some(fields)
}

/// The value up to the closing quote, and what follows.
fn quoted_value(text: &str) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut characters = text.char_indices();
    loop {
        match characters.next()? {
            (place, '"') => return Some((value, &text[place + 1..])),
            (_, '\\') => value.push(characters.next()?.1),
            (_, other) => value.push(other),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn report(lines: &[&str]) -> Report {
        Report::parse(
            &lines
                .iter()
                .map(|&line| line.to_owned())
                .collect::<Vec<_>>(),
        )
    }

    #[test]
    fn entries_become_objects_by_section() {
        let report = report(&[
            "memory heap: used_kib=12 total_kib=60",
            r#"rings vif0: frontend=Connected last_problem="it said \"no\" = never""#,
            "network tcp [::]:80: state=listens half_open=0",
            "what is this",
            "network broken: quote=\"",
        ]);
        assert_eq!(
            report.json(),
            json!({
                "memory": [{"subject": "heap", "used_kib": 12, "total_kib": 60}],
                "rings": [{
                    "subject": "vif0",
                    "frontend": "Connected",
                    "last_problem": "it said \"no\" = never"
                }],
                "network": [{"subject": "tcp [::]:80", "state": "listens", "half_open": 0}],
            })
        );
        assert_eq!(report.field("memory", "heap", "used_kib"), Some("12"));
        assert_eq!(report.field("memory", "heap", "free_kib"), None);
    }

    #[test]
    fn people_see_headings_and_rates() {
        let before = report(&["tasks tasks: timers=3 uptime_s=1", "tasks work: polls=10"]);
        let after = report(&[
            "tasks tasks: timers=3 uptime_s=3",
            "tasks work: polls=50",
            "memory heap: used_kib=1",
        ]);
        assert_eq!(
            after.text(Some((&before, 2.0))),
            "tasks\n  tasks: timers=3 uptime_s=3\n  work: polls=50 (+20/s)\nmemory\n  heap: used_kib=1\n"
        );
        let report = report(&["a\x1b b\x1b: c\x1b=\"it is \x1b[2J\""]);
        assert_eq!(
            report.text(None),
            "a\\u{1b}\n  b\\u{1b}: c\\u{1b}=\"it is \\u{1b}[2J\"\n"
        );
    }

    /// What the guest's side writes is what this side reads.
    #[test]
    fn every_value_survives_the_way() {
        for value in ["", "a b", "\"", "\\", "=", "a=\"b\\\"", "é", "1"] {
            let escaped = value.replace('\\', "\\\\").replace('"', "\\\"");
            let report = report(&[&format!("s a: x=\"{escaped}\" y=2")]);
            assert_eq!(report.field("s", "a", "x"), Some(value));
            assert_eq!(report.field("s", "a", "y"), Some("2"));
        }
    }
}
