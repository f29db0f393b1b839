//! The smallest guest: says where it runs and ends.
//!
//! ```text
//! $ cargo rekernel run hello
//! rekernel: version 0.1.0 on QEMU q35, 65272 KiB of memory
//! [   0.012345] INFO  hello: hello from QEMU q35
//! rekernel: poweroff
//! ```
#![no_std]
#![no_main]
#![forbid(unsafe_code)]

#[rekernel::main]
async fn main() {
    log::info!("hello from {}", rekernel::platform().name);
}
