//! The attribute macros of the `rekernel` crate.
#![forbid(unsafe_code)]

mod main_function;
mod signature;
mod test_function;

/// Makes an `async fn main()` the program that the guest runs.
///
/// ```ignore
/// #[rekernel::main]
/// async fn main() {}
///
/// #[rekernel::main(keys = ["port"])]   // command-line keys the application understands
/// async fn main() -> Result<(), MyError> { Ok(()) }
/// ```
///
/// The function takes no argument and returns `()` or a `Result<(), E>` whose error can be
/// displayed. When it returns, the guest powers off; after an `Err` it crashes with the
/// error's text instead, so that the host can tell.
///
/// The crate needs `#![no_std]` and `#![no_main]`.
#[proc_macro_attribute]
pub fn main(
    arguments: proc_macro::TokenStream,
    item: proc_macro::TokenStream,
) -> proc_macro::TokenStream {
    main_function::expand(arguments.into(), item.into())
        .unwrap_or_else(|error| error.into_compile_error())
        .into()
}

/// Makes an `async fn` a test that `cargo rekernel test` runs inside a guest.
///
/// ```ignore
/// #[cfg(test)]
/// mod tests {
///     #[rekernel::test]
///     async fn time_goes_on() {
///         let before = rekernel::uptime();
///         rekernel::time::sleep(core::time::Duration::from_millis(5)).await;
///         assert!(rekernel::uptime() > before);
///     }
/// }
/// ```
///
/// The function takes no argument and returns `()` or a `Result<(), E>` whose error can be
/// displayed. It fails by a panic or an error; after a panic the remaining tests run in a new guest.
/// Tests that pass share a guest, one after the other, and what they have spawned goes on.
///
/// It stands in the program's crate, where `#[rekernel::main]` is, and is compiled for tests only.
/// The program's `[[bin]]` in `Cargo.toml` needs `harness = false`.
#[proc_macro_attribute]
pub fn test(
    arguments: proc_macro::TokenStream,
    item: proc_macro::TokenStream,
) -> proc_macro::TokenStream {
    test_function::expand(arguments.into(), item.into())
        .unwrap_or_else(|error| error.into_compile_error())
        .into()
}
