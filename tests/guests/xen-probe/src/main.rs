//! Uses every part of the `xen` crate on a real hypervisor and says `PROBE OK`, or
//! `PROBE FAILED: ` and why. Lines come on the PV console (`xl console`).
//!
//! The first word of the command line chooses what happens after the checks:
//!
//! | word       | what                                                                              |
//! |------------|-----------------------------------------------------------------------------------|
//! | none       | `PROBE OK` and power-off                                                          |
//! | `wait`     | `PROBE WAITS`, echoes console input as `INPUT ...`, obeys `xl shutdown`, `xl reboot` |
//! | `idle`     | sleeps for 20 s between the lines `IDLE BEGINS` and `IDLE ENDS`                    |
//! | `peer`     | shares a page and a port with dom0's `peer` program (tests/guests/xen-probe/peer.c) |
//! | `storm`    | the same program sends events without a pause for 10 s                           |
//! | `store`    | asks xenstore every second, and says when it answers, fails, answers again         |
//! | `flood`    | writes 1 MiB to the console, then `PROBE OK`                                       |
//! | `crash`    | crashes, with a reason                                                             |

#![no_std]
#![no_main]

extern crate alloc;

mod checks;
mod executor;
mod heap;
mod peer;

use alloc::format;
use core::panic::PanicInfo;
use core::time::Duration;

use pvh_boot::{BootInfo, interrupts};
use xen::control::{Order, Orders};
use xen::{Hypervisor, Machine, StartOptions};
use xen_proto::xenstore::Store;

use crate::executor::sleep;

pvh_boot::entry!(main);

/// Writes a line to the PV console.
macro_rules! say {
    ($($arguments:tt)*) => {
        xen::console::write(alloc::format!("{}\n", format_args!($($arguments)*)).as_bytes())
    };
}
pub(crate) use say;

const CALLBACK_VECTOR: u8 = 0xf3;

fn main(boot: &'static BootInfo) -> ! {
    let pages = heap::set_up(boot);
    let Some(detected) = xen::detect() else {
        pvh_boot::debug_port::write(b"PROBE FAILED: this is not Xen\n");
        pvh_boot::stop(pvh_boot::Outcome::Crash)
    };
    let vector = interrupts::Vector::new(CALLBACK_VECTOR).expect("a vector above 31");
    interrupts::set_handler(vector, xen::upcall);
    let options = StartOptions {
        callback_vector: CALLBACK_VECTOR,
        timers: &executor::ProbeTimers,
        pages,
        map_shared: |start, length| pvh_boot::paging::map_shared(start, length).ok(),
    };
    // SAFETY: 1. pvh-boot calls this in ring 0, in 64-bit mode, with interrupts off. 2. `heap`
    // cut these pages off RAM for us alone. 3. pvh-boot maps at physical addresses, for ever.
    // 4. The handler was set above.
    let machine = match unsafe { Machine::start(detected, options) } {
        Ok(machine) => machine,
        Err(error) => fail(&format!("start: {error}")),
    };
    let _ = log::set_logger(&ConsoleLog);
    log::set_max_level(log::LevelFilter::Debug);

    let (ring, port) = match machine.store_connection() {
        Ok(connection) => connection,
        Err(error) => fail(&format!("xenstore: {error}")),
    };
    let store = Store::new(machine.hypervisor(), ring, port);
    let driver = store.clone();
    let word = boot.command_line().split(|&byte| byte == b' ').next();
    let result = executor::run(
        machine,
        async move { fail(&format!("xenstore: {}", driver.run().await)) },
        async {
            checks::all(machine, &store).await?;
            then(word.unwrap_or_default(), machine, &store).await
        },
    );
    match result {
        Ok(()) => {
            say!("PROBE OK");
            xen::power::poweroff()
        }
        Err(problem) => fail(&problem),
    }
}

/// What the command line asks for.
async fn then(
    word: &[u8],
    machine: &'static Machine,
    store: &Store<Hypervisor>,
) -> Result<(), alloc::string::String> {
    match word {
        b"" => Ok(()),
        b"wait" => {
            say!("PROBE WAITS");
            executor::first(wait(store), executor::echo()).await
        }
        b"idle" => {
            let before = machine.statistics().upcalls;
            say!("IDLE BEGINS");
            sleep(Duration::from_secs(20)).await;
            let upcalls = machine.statistics().upcalls - before;
            say!("IDLE ENDS after {upcalls} upcalls");
            Ok(())
        }
        b"peer" => peer::meet(machine, store).await,
        b"storm" => peer::weather_storm(machine, store).await,
        b"store" => ask(store).await,
        b"flood" => {
            for line in 0..16384_u32 {
                xen::console::write(format!("flood {line:05} {:->51}\n", "").as_bytes());
                if line % 16 == 0 {
                    sleep(Duration::from_millis(1)).await;
                }
            }
            // What finds the console full is dropped: let it drain before the verdict.
            sleep(Duration::from_secs(3)).await;
            Ok(())
        }
        b"crash" => xen::power::crash("PROBE CRASHES as asked"),
        word => Err(format!("no such word: {:?}", word.escape_ascii())),
    }
}

/// Asks xenstore again and again; never ends.
async fn ask(store: &Store<Hypervisor>) -> ! {
    let mut answered = None;
    loop {
        let answer = store.read("domid").await;
        match &answer {
            Ok(_) if answered == Some(true) => {}
            Ok(_) if answered == Some(false) => say!("STORE answers again"),
            Ok(_) => say!("STORE answers"),
            Err(error) => say!("STORE fails: {error}"),
        }
        answered = Some(answer.is_ok());
        sleep(Duration::from_secs(1)).await;
    }
}

async fn wait(store: &Store<Hypervisor>) -> Result<(), alloc::string::String> {
    let order = Orders::new(store.clone())
        .next()
        .await
        .map_err(|error| format!("control/shutdown: {error}"))?;
    say!("PROBE OBEYS {order}");
    match order {
        Order::Poweroff | Order::Halt => xen::power::poweroff(),
        Order::Reboot => xen::power::reboot(),
        // What is left of a domain that acknowledged and then does not do it.
        Order::Suspend => Err("this guest cannot be suspended".into()),
    }
}

struct ConsoleLog;

impl log::Log for ConsoleLog {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &log::Record<'_>) {
        say!("{} {}: {}", record.level(), record.target(), record.args());
    }

    fn flush(&self) {}
}

fn fail(problem: &str) -> ! {
    xen::console::emergency(format!("PROBE FAILED: {problem}\n").as_bytes());
    xen::power::crash("")
}

#[panic_handler]
fn panic(information: &PanicInfo<'_>) -> ! {
    fail(&format!("{information}"))
}
