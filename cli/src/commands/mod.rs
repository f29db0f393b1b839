//! One module per subcommand: what the user asked for, done with the modules beside this one.

pub mod build;
pub mod run;
