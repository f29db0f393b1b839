//! The PV console: what `xl console` shows.
//!
//! Output that the ring has no room for waits in a backlog of 16 KiB; what exceeds that is
//! dropped, and how much it was is said later. A console backend that stops reading
//! costs neither time nor memory.

mod output;

use core::arch::asm;
use core::fmt;
use core::sync::atomic::{AtomicBool, Ordering};
use core::task::{Context, Poll};
use core::time::Duration;

use spin::Mutex;
use xen_proto::byte_stream::{ByteReader, CONSOLE_INPUT};
use xen_proto::hypervisor::EventPort;

use crate::abi::XEN_HVM_DEBUGCONS_IOPORT;
use crate::clock;
use crate::events::Port;
use crate::hypercall::Hypercalls;
use crate::machine::machine;
use crate::memory::Frame;
use output::Output;

/// Bytes of output kept while the ring is full.
const BACKLOG: usize = 16 * 1024;

/// How long [`emergency`] waits for a backend to make room, in all.
const PATIENCE: Duration = Duration::from_millis(200);

/// Writes to the console. Line feeds become carriage return and line feed, as on a terminal.
///
/// Never waits and never fails: see the module's description. The backend is told in the next
/// [`Machine::dispatch_events`](crate::Machine::dispatch_events). Before
/// [`Machine::start`](crate::Machine::start), and on a machine whose toolstack gave it no
/// console, it goes to [`emergency`].
pub fn write(bytes: &[u8]) {
    match console() {
        Some(console) => console.write(bytes),
        None => emergency(bytes),
    }
}

/// From now on has the backend told of all output at once: for a guest that may stop taking turns. Costs an
/// exit to Xen for each write. Nothing without a console.
pub fn announce_at_once() {
    if let Some(console) = console() {
        console.announces_at_once.store(true, Ordering::Relaxed);
        console.announce();
    }
}

/// Takes what was typed, up to `into.len()` bytes. Returns how many there were.
pub fn read(into: &mut [u8]) -> usize {
    console().map_or(0, |console| console.read(into))
}

/// Ready when the backend did something since the last time this was ready: there may be input
/// to [`read`]. One task waits at a time.
pub fn poll_input(context: &mut Context<'_>) -> Poll<()> {
    match console() {
        Some(console) => console.port.lock().poll_event(context),
        None => Poll::Pending,
    }
}

/// Waits until the backend took all output, for `limit` at most. Returns whether it did.
pub fn flush(limit: Duration) -> bool {
    let Some(console) = console() else {
        return true;
    };
    console.wait(clock::now() + limit, |output| {
        output.drain(&console.page);
        output.is_drained(&console.page)
    })
}

/// Writes last words: into the console ring, waiting for room if need be, but not for ever; if
/// that cannot be, to Xen's own console, where `xl dmesg` shows it.
///
/// Allocates nothing and waits for no lock: may be called from any handler.
pub fn emergency(bytes: &[u8]) {
    if console().is_some_and(|console| console.write_now(bytes)) {
        return;
    }
    let written = machine().is_some_and(|machine| machine.calls().console_write(bytes).is_ok());
    if !written {
        debug_port(bytes);
    }
}

/// The console of a started machine.
pub(crate) struct Console {
    calls: Hypercalls,
    page: Frame,
    output: Mutex<Output>,
    /// `None` once the backend's index made no sense.
    input: Mutex<Option<ByteReader>>,
    port: Mutex<Port>,
    /// The backend kept [`emergency`] waiting for too long: it does not wait again.
    given_up: AtomicBool,
    /// The backend was not told of what is in the ring.
    owes_notification: AtomicBool,
    /// The backend is told with each write.
    announces_at_once: AtomicBool,
}

impl Console {
    /// The console whose ring is in `page`.
    pub(crate) fn new(calls: Hypercalls, page: Frame, port: Port) -> Self {
        Self {
            calls,
            output: Mutex::new(Output::new(&page, BACKLOG)),
            input: Mutex::new(Some(ByteReader::attach(&page, CONSOLE_INPUT))),
            page,
            port: Mutex::new(port),
            given_up: AtomicBool::new(false),
            owes_notification: AtomicBool::new(false),
            announces_at_once: AtomicBool::new(false),
        }
    }

    /// Whether its ring is in `page`.
    pub(crate) fn is_in(&self, page: &Frame) -> bool {
        self.page.address() == page.address()
    }

    /// Goes on in another life of the guest, with a new ring in the same page, and a new port.
    pub(crate) fn resume(&self, port: Port) {
        self.output.lock().resume(&self.page);
        *self.input.lock() = Some(ByteReader::attach(&self.page, CONSOLE_INPUT));
        *self.port.lock() = port;
        self.given_up.store(false, Ordering::Relaxed);
        self.drain();
    }

    fn write(&self, bytes: &[u8]) {
        if self.output.lock().write(&self.page, bytes) {
            self.owes_notification.store(true, Ordering::Relaxed);
        }
        if self.announces_at_once.load(Ordering::Relaxed) {
            self.announce();
        }
    }

    /// Moves what waits into the ring, which may have room again. Called after events.
    pub(crate) fn drain(&self) {
        if self.output.lock().drain(&self.page) {
            self.owes_notification.store(true, Ordering::Relaxed);
        }
    }

    /// Tells the backend of what was written since the last time: once per turn of the run loop
    /// instead of once per line.
    pub(crate) fn announce(&self) {
        if self.owes_notification.load(Ordering::Relaxed) {
            self.owes_notification.store(false, Ordering::Relaxed);
            self.notify();
        }
    }

    fn read(&self, into: &mut [u8]) -> usize {
        let mut input = self.input.lock();
        let result = input.as_mut().map(|ring| ring.read(&self.page, into));
        if let Some(Err(_)) = result {
            *input = None;
        }
        // Before anything is logged: the log may be the console.
        drop(input);
        match result {
            None | Some(Ok(0)) => 0,
            Some(Ok(count)) => {
                self.notify();
                count
            }
            Some(Err(error)) => {
                log::error!("console input ends: {error}");
                0
            }
        }
    }

    /// Whether the ring got all of `bytes`.
    fn write_now(&self, bytes: &[u8]) -> bool {
        let mut rest = bytes;
        let deadline = match self.given_up.load(Ordering::Relaxed) {
            true => Duration::ZERO,
            false => clock::now() + PATIENCE,
        };
        let done = self.wait(deadline, |output| {
            rest = &rest[output.write_now(&self.page, rest)..];
            rest.is_empty() && !output.is_broken()
        });
        if !done {
            self.given_up.store(true, Ordering::Relaxed);
        }
        done
    }

    /// Tries until it succeeds or the deadline passes, notifying the backend in between. Fails
    /// at once if the output is in use: the caller interrupted whoever uses it.
    fn wait(&self, deadline: Duration, mut attempt: impl FnMut(&mut Output) -> bool) -> bool {
        loop {
            let Some(mut output) = self.output.try_lock() else {
                return false;
            };
            let done = attempt(&mut output);
            let broken = output.is_broken();
            drop(output);
            self.notify();
            if done || broken || clock::now() >= deadline {
                return done;
            }
            self.calls.yield_now();
        }
    }

    fn notify(&self) {
        if let Some(port) = self.port.try_lock() {
            port.notify();
        }
    }
}

impl fmt::Debug for Console {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Console").finish_non_exhaustive()
    }
}

fn console() -> Option<&'static Console> {
    machine().and_then(|machine| machine.console())
}

/// Writes to the port that Xen and QEMU print as debug output.
fn debug_port(bytes: &[u8]) {
    for &byte in bytes {
        // SAFETY: the port exists for output only and has no effect on memory; where nobody
        // listens on it, the write does nothing.
        unsafe {
            asm!(
                "out dx, al",
                in("dx") XEN_HVM_DEBUGCONS_IOPORT as u16,
                in("al") byte,
                options(nomem, nostack, preserves_flags)
            );
        }
    }
}
