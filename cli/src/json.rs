//! What scripts read: JSON objects on standard output, one on a line.

use std::io::{Write, stdout};

use serde_json::Value;

/// Prints an event: its fields and, as `event`, its name.
pub fn event(name: &str, mut fields: Value) {
    if let Some(object) = fields.as_object_mut() {
        object.insert("event".to_owned(), name.into());
    }
    line(&fields);
}

/// Prints one object.
pub fn line(object: &Value) {
    // Whoever closed our output does not want it.
    let _ = writeln!(stdout(), "{object}");
}
