//! One module per subcommand: what the user asked for, done with the modules beside this one.

pub mod build;
pub mod completions;
pub mod doctor;
pub mod gdb;
pub mod inspect;
pub mod new;
pub mod run;
pub mod symbolize;
pub mod test;
