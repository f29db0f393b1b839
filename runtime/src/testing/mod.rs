//! Tests that run inside a guest: what `#[rekernel::test]` expands to, and the main function of a
//! guest that was built for them. Not for use by hand.
//!
//! The host decides: it asks for the list of tests, then boots the guest with the numbers of those
//! to run. Each test is told when it begins and when it ends, because one that panics takes the guest
//! with it, and the host boots another for the rest.
#![doc(hidden)]

#[expect(unsafe_code, reason = "what the linker gathers is put and read here")]
mod registered;

use alloc::boxed::Box;
use alloc::string::{String, ToString};
use core::future::Future;
use core::pin::Pin;

use rekernel_core::test_order::TestOrder;

use crate::start::Outcome;
use crate::{config, console, machine};

pub use crate::__register_test as register;

/// The key of the command line that says what to do.
pub const KEY: &str = "rekernel.test";

/// A test, as the macro registers it.
#[derive(Debug)]
pub struct Test {
    /// Where it is: the crate, its modules, the function's name.
    pub path: &'static str,
    /// Starts it.
    pub start: fn() -> Running,
}

/// A test under way: what is wrong, in the end, or nothing.
pub type Running = Pin<Box<dyn Future<Output = Result<(), String>>>>;

/// The same for all tests, whatever they return.
pub fn running<F>(test: F) -> Running
where
    F: Future<Output: Outcome> + 'static,
{
    Box::pin(async move {
        match test.await.error() {
            Some(error) => Err(error.to_string()),
            None => Ok(()),
        }
    })
}

/// The main function of a guest that was built for tests.
///
/// # Errors
/// Where the command line does not say what to do. A test that fails is told on the console
/// instead, and the next one runs.
pub async fn main() -> Result<(), String> {
    // A test that does not give the processor back ends no turn.
    if let Some(machine) = machine::chosen() {
        machine.hurry_console();
    }
    let tests = registered::tests();
    let text = config::value(KEY).unwrap_or("all");
    match TestOrder::parse(text, tests.len()) {
        Ok(TestOrder::List) => {
            for (number, test) in tests.iter().enumerate() {
                let name = test
                    .path
                    .split_once("::")
                    .map_or(test.path, |(_, name)| name);
                console::write_line(format_args!("rekernel: test {number} is {name}"));
            }
        }
        Ok(TestOrder::Run(numbers)) => {
            for number in numbers {
                run(number, tests[number]).await;
            }
        }
        Err(error) => return Err(alloc::format!("command line: {KEY}={text}: {error}")),
    }
    Ok(())
}

async fn run(number: usize, test: &Test) {
    console::write_line(format_args!("rekernel: test {number} begins"));
    match (test.start)().await {
        Ok(()) => console::write_line(format_args!("rekernel: test {number} ok")),
        Err(error) => {
            console::write_line(format_args!("rekernel: test {number} failed: {error}"));
        }
    }
}
