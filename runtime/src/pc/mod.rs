//! A PC without Xen: QEMU's `pc`, `q35` and `microvm`, booted through PVH.
//!
//! Console on the first serial port, time from the time-stamp counter, the local APIC's timer
//! to wake up, network through virtio: on PCI with message-signalled interrupts, on `microvm`
//! with registers and interrupt lines that QEMU names on the command line.

mod clock;
mod io_apic;
#[expect(unsafe_code, reason = "I/O ports")]
mod io_port;
mod local_apic;
mod monitor;
#[expect(unsafe_code, reason = "PCI configuration and address ranges")]
pub(crate) mod pci;
mod power;
#[expect(unsafe_code, reason = "memory-mapped registers")]
mod registers;
mod serial;
mod signal;
mod timer_chip;
mod virtio;
mod virtio_frame;
#[expect(unsafe_code, reason = "device memory")]
mod virtio_hal;
#[expect(unsafe_code, reason = "memory shared with devices")]
mod virtio_memory;
#[expect(unsafe_code, reason = "registers at an address from the command line")]
mod virtio_mmio;
mod virtio_net;
mod wall_clock;

use alloc::boxed::Box;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::task::{Context, Poll};
use core::time::Duration;

use pvh_boot::interrupts::{self, Vector};
use rekernel_core::config::Settings;
use rekernel_core::executor::spawn;
use rekernel_core::platform::{NoEntropy, Platform};
use rekernel_core::report::Sink;
use spin::Once;

use self::clock::{Clock, Source};
use self::io_apic::IoApic;
use self::local_apic::LocalApic;
use self::serial::Serial;
use self::signal::Signal;
use crate::counter::Counter;
use crate::heap::{self, SharedPages};
use crate::machine::{Machine, MachineActivity};
use crate::network::Interfaces;
use crate::report::Section;
use crate::watchdog::{Watchdog, WatchdogError};
use crate::{buffers, dma, entropy, information};

/// Starts every network interface, the monitor, and what a clock that had to be measured still needs.
pub(crate) fn start_network(settings: &Settings, interfaces: Interfaces) {
    virtio::start_network(settings, interfaces);
    monitor::start();
    if let Some(clock) = CLOCK.get() {
        spawn(clock.refine());
    }
}

/// For the interrupt handlers, which are plain functions.
static LOCAL_APIC: Once<LocalApic> = Once::new();

/// For the task that measures its speed.
static CLOCK: Once<Clock> = Once::new();

/// Two signals for each network interface.
static SIGNALS: [Signal; SIGNAL_COUNT] = [const { Signal::new() }; SIGNAL_COUNT];
const SIGNAL_COUNT: usize = 16;

/// Vectors: one for each signal from here on, then the timer's.
const FIRST_SIGNAL_VECTOR: u8 = 0x40;
const TIMER_VECTOR: u8 = FIRST_SIGNAL_VECTOR + SIGNAL_COUNT as u8;
const SERIAL_VECTOR: u8 = TIMER_VECTOR + 1;
const MONITOR_VECTOR: u8 = SERIAL_VECTOR + 1;
const SPURIOUS_VECTOR: u8 = 0xff;

/// The machine.
struct Pc {
    name: String,
    serial: Option<Serial>,
    /// Whether the serial port interrupts: known once somebody waited for input.
    serial_interrupts: Once<bool>,
    apic: &'static LocalApic,
    clock: &'static Clock,
    /// Time since the Unix epoch at start.
    epoch: Option<Duration>,
    halts: Counter,
    timers_set: Counter,
}

/// Input on the serial port.
static SERIAL_INPUT: Signal = Signal::new();

/// Input on the second one.
static MONITOR_INPUT: Signal = Signal::new();

static INTERRUPTS: Counter = Counter::new();

/// Starts the machine; its time starts at the counter value `start`, and `shared` is for
/// devices.
///
/// # Panics
/// When there is no local APIC: nothing could wake the guest.
pub(crate) fn start(start: u64, shared: SharedPages) -> &'static dyn Machine {
    dma::add(shared);
    let serial = Serial::first();
    let apic = LocalApic::start(SPURIOUS_VECTOR).expect("the local APIC can be mapped");
    let apic = LOCAL_APIC.call_once(|| apic);
    let clock = CLOCK.call_once(|| Clock::start(start, apic));
    let epoch = wall_clock::read().map(|time| time.saturating_sub(clock.now()));
    for (number, &handler) in HANDLERS.iter().enumerate() {
        set_handler(FIRST_SIGNAL_VECTOR + number as u8, handler);
    }
    set_handler(TIMER_VECTOR, on_timer);
    set_handler(SERIAL_VECTOR, on_serial);
    set_handler(MONITOR_VECTOR, on_monitor);
    set_handler(SPURIOUS_VECTOR, || {});
    apic.enable_timer(TIMER_VECTOR);
    Box::leak(Box::new(Pc {
        name: name(),
        serial,
        serial_interrupts: Once::new(),
        apic,
        clock,
        epoch,
        halts: Counter::new(),
        timers_set: Counter::new(),
    }))
}

fn set_handler(vector: u8, handler: fn()) {
    let vector = Vector::new(vector).expect("vectors from 32 on are free");
    interrupts::set_handler(vector, handler);
}

fn on_timer() {
    signal::note_any();
    end_interrupt();
}

fn on_serial() {
    SERIAL_INPUT.note();
    end_interrupt();
}

fn on_monitor() {
    MONITOR_INPUT.note();
    end_interrupt();
}

fn on_signal<const NUMBER: usize>() {
    SIGNALS[NUMBER].note();
    end_interrupt();
}

fn end_interrupt() {
    INTERRUPTS.add();
    if let Some(apic) = LOCAL_APIC.get() {
        apic.end_interrupt();
    }
}

const HANDLERS: [fn(); SIGNAL_COUNT] = [
    on_signal::<0>,
    on_signal::<1>,
    on_signal::<2>,
    on_signal::<3>,
    on_signal::<4>,
    on_signal::<5>,
    on_signal::<6>,
    on_signal::<7>,
    on_signal::<8>,
    on_signal::<9>,
    on_signal::<10>,
    on_signal::<11>,
    on_signal::<12>,
    on_signal::<13>,
    on_signal::<14>,
    on_signal::<15>,
];

/// The machine's name, from the bridge that its PCI bus starts with.
fn name() -> String {
    const I440FX: u32 = 0x1237_8086;
    const Q35: u32 = 0x29c0_8086;
    let maker = if power::under_qemu() { "QEMU" } else { "PVH" };
    let model = match pci::host_bridge() {
        Some(I440FX) => "pc",
        Some(Q35) => "q35",
        Some(_) => "machine",
        None => "microvm",
    };
    format!("{maker} {model}")
}

/// Has a serial port interrupt for input; false if that cannot be.
fn announce_input(serial: &Serial, vector: u8, apic: &LocalApic) -> bool {
    let routed = IoApic::start()
        .is_ok_and(|controller| controller.route(serial.line, vector, apic.identity()));
    if routed {
        serial.announce_input();
    }
    routed
}

impl Pc {
    /// Brings the serial port's interrupt to the processor; false if that cannot be.
    fn announce_serial_input(&self) -> bool {
        let Some(serial) = &self.serial else {
            log::warn!("no serial port: nothing can be typed");
            return false;
        };
        let routed = announce_input(serial, SERIAL_VECTOR, self.apic);
        if !routed {
            log::warn!("no interrupt for the serial port: nothing can be typed");
        }
        routed
    }

    /// Has the timer fire at `deadline`.
    fn set_timer(&self, deadline: Duration) {
        self.timers_set.add();
        if crate::processor::has_timer_deadline() {
            crate::processor::write_timer_deadline(self.clock.counter_at(deadline));
        } else {
            let span = deadline.saturating_sub(self.clock.now());
            self.apic.fire_after(self.clock.timer_ticks(span));
        }
    }
}

impl Platform for Pc {
    fn now(&self) -> Duration {
        self.clock.now()
    }

    fn wall_clock(&self) -> Option<Duration> {
        self.epoch.map(|epoch| epoch + self.clock.now())
    }

    fn dispatch_events(&self) -> bool {
        interrupts::admit();
        let any = signal::take_any();
        if any {
            SIGNALS.iter().for_each(Signal::dispatch);
            SERIAL_INPUT.dispatch();
            MONITOR_INPUT.dispatch();
        }
        any
    }

    fn idle(&self, deadline: Option<Duration>) {
        if let Some(deadline) = deadline {
            if deadline <= self.clock.now() {
                return;
            }
            self.set_timer(deadline);
        }
        self.halts.add();
        // A timer that fires before the halt has been noted, so there is no halt.
        interrupts::halt_unless(signal::any_noted);
    }

    fn entropy(&self, seed: &mut [u8; 32]) -> Result<(), NoEntropy> {
        entropy::fill(seed)
    }

    fn socket_buffer(&self, bytes: usize) -> Option<Vec<u8>> {
        buffers::socket_buffer(bytes)
    }

    fn can_back(&self, bytes: usize) -> bool {
        buffers::can_back(bytes)
    }

    fn has_headroom(&self) -> bool {
        heap::information().has_headroom()
    }

    fn give_back(&self, unused: &mut [u8]) {
        buffers::give_back(unused);
    }

    fn backed_bytes(&self) -> usize {
        buffers::backed_bytes()
    }
}

impl Machine for Pc {
    fn name(&self) -> &str {
        &self.name
    }

    fn activity(&self) -> MachineActivity {
        MachineActivity {
            halts: self.halts.get(),
            interrupts: INTERRUPTS.get(),
            clock_readings: self.clock.readings(),
            timers_set: self.timers_set.get(),
            hypercalls: 0,
            notifications: 0,
        }
    }

    fn write_console(&self, bytes: &[u8]) {
        match &self.serial {
            Some(serial) => serial.write(bytes),
            None => pvh_boot::debug_port::write(bytes),
        }
    }

    fn read_console(&self, into: &mut [u8]) -> usize {
        self.serial.as_ref().map_or(0, |serial| serial.read(into))
    }

    fn poll_console(&self, context: &mut Context<'_>) -> Poll<()> {
        let announced = self
            .serial_interrupts
            .call_once(|| self.announce_serial_input());
        match announced {
            true => SERIAL_INPUT.poll(context),
            false => Poll::Pending,
        }
    }

    fn start_watchdog(&self, _: u32) -> Result<Box<dyn Watchdog>, WatchdogError> {
        Err(WatchdogError::Unsupported {
            platform: information::platform().name,
        })
    }

    fn report(&self, _: Section, _: &mut Sink<'_>) {}

    fn power_off(&self) -> ! {
        power::power_off()
    }

    fn crash(&self) -> ! {
        power::crash()
    }

    fn describe(&self) {
        let (source, frequency) = self.clock.speed();
        let megahertz = frequency / 1_000_000;
        match source {
            Source::Guessed => {
                log::error!("nothing tells the clock's speed; taking {megahertz} MHz")
            }
            source => log::debug!("time-stamp counter at {megahertz} MHz ({source:?})"),
        }
        if self.serial.is_none() {
            log::warn!("no serial port; the console is the debug port");
        }
    }
}
