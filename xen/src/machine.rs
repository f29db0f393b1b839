//! The machine, brought up once.

mod error;
mod suspend;

use alloc::rc::Rc;
use alloc::vec::Vec;
use core::fmt;
use core::ops::Range;
use core::ptr::NonNull;
use core::time::Duration;

use spin::{Mutex, Once};
use xen_proto::hypervisor::{
    Access, DomainId, GrantReference, PAGE_SIZE, ResourceError, SharedPage,
};

use crate::abi;
use crate::clock::Timer;
use crate::console::Console;
use crate::cpuid::{Detected, Processor, instruction_in_hypercall_page};
use crate::events::{EVENTS, Port, SHARED_INFO};
use crate::grants::GrantTable;
use crate::hypercall::{self, Errno, Hypercalls, Instruction};
use crate::hypervisor::{Hypervisor, Timers};
use crate::memory::Frame;
use crate::pages::{OwnedPage, PagePool};
use crate::version::{Features, Version};
pub use error::{StartError, StoreConnectionError, SuspendError};
pub use suspend::Resumption;

static MACHINE: Once<Machine> = Once::new();

/// The machine, if it was started.
#[must_use]
pub fn machine() -> Option<&'static Machine> {
    MACHINE.get()
}

/// What the runtime provides.
#[derive(Clone)]
pub struct StartOptions {
    /// The interrupt vector through which events are announced; [`upcall`](crate::upcall) is
    /// its handler.
    pub callback_vector: u8,
    /// How tasks wait.
    pub timers: &'static dyn Timers,
    /// Addresses of RAM for pages that are shared, page-aligned. A few go to Xen: shared info
    /// and the grant table take their places.
    pub pages: Range<usize>,
    /// Makes `length` bytes at a physical address accessible: write-back, not executable. They
    /// are rings that the toolstack placed, outside of RAM. `None` if that cannot be.
    pub map_shared: fn(physical: u64, length: u64) -> Option<NonNull<u8>>,
}

/// Counters for diagnosis.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Statistics {
    /// Interrupts for events. Most events need none: the run loop finds them.
    pub upcalls: u64,
    /// Hypercalls.
    pub calls: Calls,
    /// Readings of the clock.
    pub clock_readings: u64,
    /// Pages of the pool.
    pub pages: usize,
    /// Pages of the pool not in use.
    pub pages_free: usize,
    /// Grants that ended while the peer had the page mapped, and still has.
    pub quarantined: usize,
    /// References that can be granted without growing the table.
    pub references_free: usize,
    /// Event channel ports that are open.
    pub ports: usize,
}

/// Hypercalls made, each of them a VM exit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Calls {
    /// All of them.
    pub all: u64,
    /// Those that sent an event to a peer.
    pub events_sent: u64,
    /// Those that set the timer.
    pub timers_set: u64,
}

/// The Xen interface of this domain, up and running.
pub struct Machine {
    calls: Hypercalls,
    host: Mutex<Host>,
    callback_vector: u8,
    memory: Mutex<Memory>,
    timer: Timer,
    timers: &'static dyn Timers,
    rings: Mutex<Rings>,
    console: Option<Console>,
    store: Mutex<StoreRing>,
}

/// What the hypervisor said about itself and this domain.
#[derive(Clone, Copy, Debug)]
struct Host {
    detected: Detected,
    version: Version,
    features: Features,
}

/// What is shared, and what could be.
#[derive(Debug)]
struct Memory {
    pool: PagePool,
    grants: GrantTable,
}

#[derive(Debug)]
enum StoreRing {
    Absent,
    Ready { page: Frame, port: u32 },
    Taken,
}

/// Pages of rings that the toolstack set up, outside of RAM.
struct Rings {
    map_shared: fn(physical: u64, length: u64) -> Option<NonNull<u8>>,
    mapped: Vec<Frame>,
}

impl Machine {
    /// Brings the interface up: hypercalls, callback vector, shared info, grant table, timer,
    /// console. Interrupts may be enabled after.
    ///
    /// # Safety
    /// 1. This is ring 0 in 64-bit mode on the only vCPU in use, with interrupts disabled;
    ///    `detected` came from [`detect`](crate::detect).
    /// 2. Virtual addresses equal physical ones in `options.pages`, which is mapped readable and
    ///    writable RAM for as long as the program runs, and nothing else accesses it.
    /// 3. `options.map_shared` returns memory that is mapped readable and writable for as long as
    ///    the program runs, at `physical`, and that nothing else accesses.
    /// 4. When interrupts are enabled, [`upcall`](crate::upcall) is the handler of
    ///    `options.callback_vector`.
    ///
    /// # Errors
    /// [`StartError`]. What was set up until then stays so; do not try again.
    pub unsafe fn start(
        detected: Detected,
        options: StartOptions,
    ) -> Result<&'static Self, StartError> {
        if MACHINE.is_completed() {
            return Err(StartError::AlreadyStarted);
        }
        let mut pool = PagePool::default();
        // SAFETY: duty 2.
        unsafe { pool.add(options.pages.clone()) }.map_err(StartError::Pages)?;
        // SAFETY: ring 0 on Xen, duty 1.
        let instruction = unsafe { choose_instruction(&detected, &mut pool)? };
        hypercall::use_instruction(instruction);
        // SAFETY: ring 0 on Xen, and the instruction was just set.
        let calls = unsafe { Hypercalls::new() };

        let host = identify(calls, detected)?;
        // Before shared info is mapped: from 64-bit mode this makes Xen use the 64-bit layout.
        // SAFETY: duty 4.
        let result = unsafe { calls.set_callback_vector(options.callback_vector) };
        result.map_err(refused("HVMOP_set_param of the callback vector"))?;
        map_shared_info(calls, &mut pool)?;
        let memory = start_grants(calls, pool)?;
        let timer_port = open_timer_port(calls)?;

        let mut rings = Rings {
            map_shared: options.map_shared,
            mapped: Vec::new(),
        };
        let console = rings
            .find_console(calls)
            .map(|(page, port)| Console::new(calls, page, port));
        let store = rings.find_store(calls);
        Ok(MACHINE.call_once(|| Self {
            calls,
            host: Mutex::new(host),
            callback_vector: options.callback_vector,
            memory: Mutex::new(memory),
            timer: Timer::new(timer_port),
            timers: options.timers,
            rings: Mutex::new(rings),
            console,
            store: Mutex::new(store),
        }))
    }

    /// What drivers are given.
    #[must_use]
    pub fn hypervisor(&'static self) -> Hypervisor {
        Hypervisor::new(self)
    }

    /// Wakes the tasks whose events came since the last call. Returns whether there were any.
    /// For the run loop; never for an interrupt handler.
    pub fn dispatch_events(&self) -> bool {
        let Some(shared) = SHARED_INFO.get() else {
            return false;
        };
        let any = EVENTS.dispatch(shared);
        if any {
            if let Some(console) = &self.console {
                console.drain();
            }
            self.memory.lock().retry_quarantine();
        }
        if let Some(console) = &self.console {
            console.announce();
        }
        any
    }

    /// Lets ports interrupt that were quiet since their last event. Returns whether
    /// [`dispatch_events`](Self::dispatch_events) has something to do: then the processor must not
    /// be halted. From here on an event ends a halt.
    #[must_use]
    pub fn prepare_to_sleep(&self) -> bool {
        SHARED_INFO
            .get()
            .is_some_and(|shared| EVENTS.prepare_to_sleep(shared))
    }

    /// Whether an interrupt noted something for [`dispatch_events`](Self::dispatch_events). For the
    /// check with interrupts off before the processor is halted.
    #[must_use]
    pub fn events_noted(&self) -> bool {
        EVENTS.any_noted()
    }

    /// The ring and the event channel to xenstore, once in each life of the guest.
    ///
    /// # Errors
    /// [`StoreConnectionError`].
    pub fn store_connection(&self) -> Result<(Rc<dyn SharedPage>, Port), StoreConnectionError> {
        let mut store = self.store.lock();
        match core::mem::replace(&mut *store, StoreRing::Taken) {
            StoreRing::Ready { page, port } => {
                let port = Port::open(self.calls, port).map_err(StoreConnectionError::Port)?;
                Ok((Rc::new(page), port))
            }
            StoreRing::Taken => Err(StoreConnectionError::Taken),
            StoreRing::Absent => {
                *store = StoreRing::Absent;
                Err(StoreConnectionError::Absent)
            }
        }
    }

    /// The hypervisor's version.
    #[must_use]
    pub fn version(&self) -> Version {
        self.host.lock().version
    }

    /// What the hypervisor offers.
    #[must_use]
    pub fn features(&self) -> Features {
        self.host.lock().features
    }

    /// This domain's number, where CPUID tells it.
    #[must_use]
    pub fn domain(&self) -> Option<DomainId> {
        self.detected().domain
    }

    /// What CPUID said.
    #[must_use]
    pub fn detected(&self) -> Detected {
        self.host.lock().detected
    }

    /// Counters.
    #[must_use]
    pub fn statistics(&self) -> Statistics {
        let memory = self.memory.lock();
        let [all, events_sent, timers_set] = hypercall::counts();
        Statistics {
            upcalls: EVENTS.upcalls(),
            calls: Calls {
                all,
                events_sent,
                timers_set,
            },
            clock_readings: crate::clock::readings(),
            pages: memory.pool.total(),
            pages_free: memory.pool.free(),
            quarantined: memory.grants.quarantined(),
            references_free: memory.grants.free(),
            ports: EVENTS.open_ports(),
        }
    }

    pub(crate) fn calls(&self) -> Hypercalls {
        self.calls
    }

    pub(crate) fn console(&self) -> Option<&Console> {
        self.console.as_ref()
    }

    pub(crate) fn timers(&self) -> &'static dyn Timers {
        self.timers
    }

    pub(crate) fn set_timer(&self, deadline: Duration) {
        if let Err(errno) = self.timer.set(self.calls, deadline) {
            log::error!("xen refused VCPUOP_set_singleshot_timer: {errno}");
        }
    }

    pub(crate) fn allocate_port(&self, peer: DomainId) -> Result<Port, ResourceError> {
        match self.calls.allocate_port(peer.0) {
            Ok(number) => Port::open(self.calls, number),
            Err(Errno(errno)) => Err(ResourceError::Refused {
                operation: "EVTCHNOP_alloc_unbound",
                errno,
            }),
        }
    }

    pub(crate) fn grant(
        &self,
        peer: DomainId,
        access: Access,
    ) -> Result<(GrantReference, OwnedPage), ResourceError> {
        let Memory { pool, grants } = &mut *self.memory.lock();
        grants.share(
            pool,
            &mut |index, page| map_grant_frame(self.calls, index, page),
            peer,
            access,
        )
    }

    pub(crate) fn end_grant(&self, reference: GrantReference, page: OwnedPage) {
        let Memory { pool, grants } = &mut *self.memory.lock();
        grants.end(pool, reference, page);
    }
}

impl fmt::Debug for Machine {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Machine")
            .field("version", &self.version())
            .field("domain", &self.domain())
            .field("statistics", &self.statistics())
            .finish_non_exhaustive()
    }
}

impl Memory {
    fn retry_quarantine(&mut self) {
        self.grants.retry_quarantine(&mut self.pool, 4);
    }
}

/// `vmcall` or `vmmcall`.
///
/// # Safety
/// Ring 0 on the Xen that `detected` describes.
unsafe fn choose_instruction(
    detected: &Detected,
    pool: &mut PagePool,
) -> Result<Instruction, StartError> {
    match detected.processor {
        Processor::Intel => return Ok(Instruction::Vmcall),
        Processor::Amd => return Ok(Instruction::Vmmcall),
        Processor::Unknown => {}
    }
    // The vendor string was masked. Xen knows: have it fill in a hypercall page, as data that
    // is read and never executed.
    let page = pool.take().ok_or(StartError::OutOfPages)?;
    let mut register = x86_64::registers::model_specific::Msr::new(detected.hypercall_register);
    // SAFETY: the register is Xen's own (cpuid leaf 2), and has it write to the page given,
    // which is ours.
    unsafe { register.write(page.memory().address() as u64) };
    let mut entry = [0; 32];
    page.memory().copy_out(0, &mut entry);
    pool.give_back(page);
    instruction_in_hypercall_page(&entry).ok_or(StartError::UnknownProcessor)
}

/// Version and features, and whether they are enough.
fn identify(calls: Hypercalls, detected: Detected) -> Result<Host, StartError> {
    let number = calls.version().map_err(refused("XENVER_version"))?;
    let extra = calls
        .extra_version()
        .map_err(refused("XENVER_extraversion"))?;
    let features = calls.features().map_err(refused("XENVER_get_features"))?;
    let features = Features::from_bits_retain(features);
    let lacks = |feature| Err(StartError::Lacks { feature });
    if !features.contains(Features::HVM_CALLBACK_VECTOR) {
        return lacks("hvm_callback_vector");
    }
    if !features.contains(Features::HVM_SAFE_PVCLOCK) {
        return lacks("hvm_safe_pvclock");
    }
    Ok(Host {
        detected,
        version: Version::new(number, extra),
        features,
    })
}

/// Puts shared info in the place of a page of the pool: docs/decisions/xen.md says why there.
fn map_shared_info(calls: Hypercalls, pool: &mut PagePool) -> Result<(), StartError> {
    let page = pool.take().ok_or(StartError::OutOfPages)?;
    // SAFETY: the page is ours and empty; it is only used as what it becomes.
    let result =
        unsafe { calls.add_to_physmap(abi::XENMAPSPACE_SHARED_INFO, 0, page.memory().number()) };
    result.map_err(refused("XENMEM_add_to_physmap of shared info"))?;
    let shared = page.into_frame();
    // Ports that nobody opened yet must not interrupt.
    EVENTS.mask_all(&shared);
    SHARED_INFO.call_once(|| shared);
    Ok(())
}

/// The grant table with its first page.
fn start_grants(calls: Hypercalls, mut pool: PagePool) -> Result<Memory, StartError> {
    calls
        .set_grant_table_version(1)
        .map_err(refused("GNTTABOP_set_version"))?;
    let size = calls
        .grant_table_size()
        .map_err(refused("GNTTABOP_query_size"))?;
    if size.status != 0 {
        return Err(StartError::Lacks {
            feature: "a grant table that can be asked for its size",
        });
    }
    let mut grants = GrantTable::new(size.max_frames);
    grants
        .grow(&mut pool, &mut |index, page| {
            map_grant_frame(calls, index, page)
        })
        .map_err(from_resource)?;
    Ok(Memory { pool, grants })
}

fn map_grant_frame(calls: Hypercalls, index: u32, page: &OwnedPage) -> Result<(), Errno> {
    // SAFETY: the page is ours and empty, and its owner uses it as nothing else after this.
    unsafe { calls.add_to_physmap(abi::XENMAPSPACE_GRANT_TABLE, index, page.memory().number()) }
}

fn open_timer_port(calls: Hypercalls) -> Result<Port, StartError> {
    let port = calls
        .bind_virq(abi::VIRQ_TIMER)
        .map_err(refused("EVTCHNOP_bind_virq of the timer"))?;
    Port::open(calls, port).map_err(from_resource)
}

impl Rings {
    /// The PV console's page and port, if the toolstack gave this domain one.
    fn find_console(&mut self, calls: Hypercalls) -> Option<(Frame, Port)> {
        let (page, port) = self.find(
            calls,
            abi::HVM_PARAM_CONSOLE_PFN,
            abi::HVM_PARAM_CONSOLE_EVTCHN,
        )?;
        let port = Port::open(calls, port).ok()?;
        Some((page, port))
    }

    /// The xenstore ring, if the toolstack gave this domain one.
    fn find_store(&mut self, calls: Hypercalls) -> StoreRing {
        match self.find(calls, abi::HVM_PARAM_STORE_PFN, abi::HVM_PARAM_STORE_EVTCHN) {
            Some((page, port)) => StoreRing::Ready { page, port },
            None => StoreRing::Absent,
        }
    }

    /// A ring that the toolstack set up: its page, and its event channel port.
    fn find(&mut self, calls: Hypercalls, page: u32, port: u32) -> Option<(Frame, u32)> {
        let frame = calls.hvm_param(page).ok()?;
        let port = u32::try_from(calls.hvm_param(port).ok()?).ok()?;
        // 0 means that there is none, all ones that there is none yet.
        let physical = frame
            .checked_mul(PAGE_SIZE as u64)
            .filter(|&physical| physical != 0 && port != 0 && port < abi::EVENT_PORTS)?;
        Some((self.map(physical)?, port))
    }

    /// The page at a physical address, which stays mapped once it was.
    fn map(&mut self, physical: u64) -> Option<Frame> {
        let known = self
            .mapped
            .iter()
            .find(|page| page.address() as u64 == physical);
        if let Some(known) = known {
            // SAFETY: duty 3 of `Machine::start`: mapped for good.
            return Some(unsafe { known.another() });
        }
        let address = (self.map_shared)(physical, PAGE_SIZE as u64)?;
        // SAFETY: duty 3 of `Machine::start`, whose function this is.
        let page = unsafe { Frame::new(address) };
        // SAFETY: as above.
        self.mapped.push(unsafe { page.another() });
        Some(page)
    }
}

fn refused(operation: &'static str) -> impl FnOnce(Errno) -> StartError {
    move |errno| StartError::Refused { operation, errno }
}

fn from_resource(error: ResourceError) -> StartError {
    match error {
        ResourceError::OutOfPages => StartError::OutOfPages,
        ResourceError::OutOfGrants => StartError::Lacks {
            feature: "a grant table with entries for us",
        },
        ResourceError::Refused { operation, errno } => StartError::Refused {
            operation,
            errno: Errno(errno),
        },
    }
}
