//! The machine alone, against a model of Linux's backend, and over a real xenstore.

mod life;
mod machine;
