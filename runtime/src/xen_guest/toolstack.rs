//! What the toolstack orders: to end, to start again, to be suspended.

use rekernel_core::lifecycle::{self, Shutdown};
use xen::Machine;
use xen::control::{Order, Orders};

use super::Store;
use super::suspend::{Resumables, suspend};
use crate::console;

/// Obeys for as long as xenstored is to be understood.
pub(super) async fn obey(machine: &'static Machine, store: Store, resumables: Resumables) {
    let mut orders = Orders::new(store.clone());
    loop {
        match orders.next().await {
            Ok(Order::Suspend) => {
                if suspend(machine, &store, &resumables).await == lifecycle::Resumed::Restored {
                    orders.restored();
                }
            }
            Ok(Order::Poweroff) => end(Shutdown::Poweroff).await,
            Ok(Order::Halt) => end(Shutdown::Halt).await,
            Ok(Order::Reboot) => end(Shutdown::Reboot).await,
            Err(error) => {
                log::error!("no orders from the toolstack any more: {error}");
                return;
            }
        }
    }
}

/// Ends the guest once the application is ready for it, or its time is up.
async fn end(how: Shutdown) {
    if let Err(unfinished) = lifecycle::run_before_shutdown(how).await {
        console::write_line(format_args!(
            "rekernel: {how} without waiting: {unfinished}"
        ));
    }
    match how {
        Shutdown::Poweroff | Shutdown::Halt => crate::shutdown(),
        Shutdown::Reboot => {
            console::write_line(format_args!("rekernel: reboot"));
            xen::power::reboot()
        }
    }
}
