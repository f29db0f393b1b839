//! A guest whose own tests pass, fail in every way a test can, and hang.
//!
//! `cargo rekernel test test-probe --timeout 5` must tell them apart, and run each of them
//! although several end the guest.
#![no_std]
#![no_main]
#![forbid(unsafe_code)]

extern crate alloc;

#[rekernel::main(keys = ["motto"])]
async fn main() {
    log::info!("{}", greeting());
}

fn greeting() -> &'static str {
    "main ran"
}

#[cfg(test)]
mod tests {
    use alloc::string::String;
    use core::time::Duration;

    use rekernel::{config, time};

    use super::greeting;

    #[rekernel::test]
    async fn sees_the_private_functions_of_the_program() {
        assert_eq!(greeting(), "main ran");
    }

    #[rekernel::test]
    async fn panics() {
        log::info!("said before the panic");
        panic_on_purpose(3);
    }

    #[inline(never)]
    fn panic_on_purpose(number: u8) {
        assert_eq!(number, 4, "three is not four");
    }

    #[rekernel::test]
    async fn returns_an_error() -> Result<(), String> {
        Err(String::from("the error asked for"))
    }

    #[rekernel::test]
    async fn waits_for_a_timer() -> Result<(), String> {
        let before = rekernel::uptime();
        time::sleep(Duration::from_millis(5)).await;
        match rekernel::uptime() > before {
            true => Ok(()),
            false => Err(String::from("time stands still")),
        }
    }

    #[rekernel::test]
    async fn has_an_address() {
        let address = rekernel::net::first_address().await;
        assert!(address.is_some(), "no network interface");
    }

    #[rekernel::test]
    async fn reads_the_command_line() {
        assert_eq!(config::value("motto"), Some("slow and steady"));
    }

    /// The host has to notice: nothing here gives the processor back.
    #[rekernel::test]
    async fn hangs() {
        log::info!("said before the hang");
        loop {
            core::hint::spin_loop();
        }
    }

    #[rekernel::test]
    async fn powers_the_guest_off() {
        rekernel::shutdown();
    }

    #[rekernel::test]
    async fn comes_after_all_others() {}
}
