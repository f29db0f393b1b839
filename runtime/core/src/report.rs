//! What is told about a part of the guest, for people and programs alike.
//!
//! An entry is a line: its subject, then fields with a name and a value each.
//!
//! ```text
//! vif0: link=up mtu=1500 problem="backend is gone"
//! ```
//!
//! A value with anything but letters, digits and some signs is quoted, with `\` before quotes and
//! backslashes, so that a line is one line and can be taken apart again, whatever a peer said.

use core::fmt::{self, Write};

/// A field: its name, in which units are named, and its value.
pub type Field<'a> = (&'a str, &'a dyn fmt::Display);

/// Where entries go.
pub type Sink<'a> = dyn FnMut(Entry<'_>) + 'a;

/// What is told of one thing.
#[derive(Clone, Copy)]
pub struct Entry<'a> {
    subject: &'a dyn fmt::Display,
    fields: &'a [Field<'a>],
}

impl<'a> Entry<'a> {
    /// An entry about `subject`, in whose text `: ` must not occur. Formats nothing yet, and takes
    /// no memory when it is formatted: a guest that has none left can be looked into.
    pub fn new(subject: &'a dyn fmt::Display, fields: &'a [Field<'a>]) -> Self {
        Self { subject, fields }
    }
}

impl fmt::Display for Entry<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}:", self.subject)?;
        for (name, value) in self.fields {
            write!(formatter, " {name}={}", Value(*value))?;
        }
        Ok(())
    }
}

/// A value, quoted if need be.
struct Value<'a>(&'a dyn fmt::Display);

impl fmt::Display for Value<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut inspector = Inspector::default();
        write!(inspector, "{}", self.0)?;
        if inspector.is_plain() {
            return self.0.fmt(formatter);
        }
        formatter.write_char('"')?;
        write!(Escaping(formatter), "{}", self.0)?;
        formatter.write_char('"')
    }
}

/// Finds out whether text can stand without quotes.
#[derive(Default)]
struct Inspector {
    has_text: bool,
    has_specials: bool,
}

impl Inspector {
    fn is_plain(&self) -> bool {
        self.has_text && !self.has_specials
    }
}

impl fmt::Write for Inspector {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.has_text |= !text.is_empty();
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.:/+%[]".contains(&byte);
        self.has_specials |= !text.bytes().all(is_plain);
        Ok(())
    }
}

/// Puts a backslash before quotes and backslashes; control characters become spaces.
struct Escaping<'a, 'b>(&'a mut fmt::Formatter<'b>);

impl fmt::Write for Escaping<'_, '_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for character in text.chars() {
            match character {
                '"' | '\\' => {
                    self.0.write_char('\\')?;
                    self.0.write_char(character)?;
                }
                control if control.is_control() => self.0.write_char(' ')?,
                other => self.0.write_char(other)?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::string::ToString;

    use super::*;

    #[test]
    fn an_entry_is_one_line_of_names_and_values() {
        let fields: [Field<'_>; 4] = [
            ("link", &"up"),
            ("mtu", &1500),
            ("address", &"[fe80::1]:80"),
            ("share", &format_args!("{}/{}", 3, 4)),
        ];
        assert_eq!(
            Entry::new(&"vif0", &fields).to_string(),
            "vif0: link=up mtu=1500 address=[fe80::1]:80 share=3/4"
        );
        assert_eq!(Entry::new(&"vif0", &[]).to_string(), "vif0:");
    }

    #[test]
    fn what_could_be_mistaken_is_quoted() {
        for (value, text) in [
            ("", r#"a: b="""#),
            ("two words", r#"a: b="two words""#),
            ("c=d", r#"a: b="c=d""#),
            ("say \"no\\yes\"", r#"a: b="say \"no\\yes\"""#),
            ("line\nb: fake=1\x1b[2J", r#"a: b="line b: fake=1 [2J""#),
        ] {
            assert_eq!(Entry::new(&"a", &[("b", &value)]).to_string(), text);
        }
    }
}
