//! Questions of an operator, on the second serial port: QEMU leads it to a socket of the user who runs
//! the guest. Where there is none, as under a bare `qemu -kernel`, nobody can ask.

use core::future::poll_fn;

use rekernel_core::executor::{spawn, yield_now};
use rekernel_core::lines::LineBuffer;

use super::serial::Serial;
use super::{LOCAL_APIC, MONITOR_INPUT, MONITOR_VECTOR, announce_input};
use crate::{monitor, report};

/// Answers questions from now on, if there is a second port.
pub(super) fn start() {
    let (Some(port), Some(apic)) = (Serial::second(), LOCAL_APIC.get()) else {
        return;
    };
    if announce_input(&port, MONITOR_VECTOR, apic) {
        spawn(answer(port));
    } else {
        log::warn!("no interrupt for the second serial port: nobody can ask this guest anything");
    }
}

async fn answer(port: Serial) {
    let mut line = LineBuffer::default();
    loop {
        let mut bytes = [0; 64];
        let count = port.read(&mut bytes);
        if count == 0 {
            poll_fn(|context| MONITOR_INPUT.poll(context)).await;
            continue;
        }
        for &byte in &bytes[..count] {
            let Some(line) = line.push(byte) else {
                continue;
            };
            let text = monitor::answer(&line, report::write)
                .await
                .unwrap_or_default();
            // A port takes its time: others have theirs in between.
            for piece in text.as_bytes().chunks(512) {
                port.write(piece);
                yield_now().await;
            }
        }
    }
}
