//! Accesses that must end the guest.

use alloc::string::String;
use alloc::vec::Vec;
use core::hint::black_box;

use rekernel::buffers;

pub(crate) fn cause(fault: &str) -> Result<(), String> {
    match fault {
        "outside" => {
            let buffer = buffer()?;
            // Two pages, in a slot of two: the next one is no buffer's.
            write(buffer.as_ptr().addr() + buffer.len());
        }
        "dropped" => {
            let mut buffer = buffer()?;
            buffer[0] = 1;
            let address = buffer.as_ptr().addr();
            drop(buffer);
            write(address);
        }
        "execute" => {
            let mut buffer = buffer()?;
            // A return instruction, would it be executed.
            buffer[0] = 0xc3;
            execute(buffer.as_ptr().addr());
        }
        "exhaust" => {
            let mut buffers = Vec::new();
            loop {
                let mut buffer = buffers::socket_buffer(2 << 20).ok_or("no buffer")?;
                buffer.iter_mut().step_by(4096).for_each(|byte| *byte = 1);
                buffers.push(black_box(buffer));
            }
        }
        other => return Err(alloc::format!("do={other} is no fault")),
    }
    Err(String::from("survived"))
}

fn buffer() -> Result<Vec<u8>, &'static str> {
    buffers::socket_buffer(8192).ok_or("no buffer")
}

#[inline(never)]
fn write(address: usize) {
    let place = black_box(core::ptr::with_exposed_provenance_mut::<u8>(address));
    // SAFETY: none. The access must be stopped; that is the test.
    unsafe { place.write_volatile(1) };
}

#[inline(never)]
fn execute(address: usize) {
    // SAFETY: none, as in `write`.
    unsafe { core::arch::asm!("call {}", in(reg) address, clobber_abi("C")) };
}
