//! Hypercalls: the trampoline, and one small function per operation.
//!
//! Inline `vmcall` or `vmmcall`, no hypercall page: such a page would be writable memory that is
//! executed, and Xen's own mitigation advice (XSA-466) is to do without. The number goes into
//! `rax`, arguments into `rdi rsi rdx r10 r8 r9`; no operation used here has more than three.

mod reservation;

use core::arch::asm;
use core::fmt;
use core::sync::atomic::{AtomicBool, Ordering};

use crate::abi;
use crate::counter::Counter;

/// Xen's error number, positive (`xen/include/public/errno.h`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Errno(pub u32);

impl Errno {
    /// `XEN_ENOSPC`.
    pub(crate) const NO_SPACE: Self = Self(28);
    /// `XEN_ENOSYS`.
    pub(crate) const NOT_IMPLEMENTED: Self = Self(38);
}

impl fmt::Display for Errno {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match self.0 {
            1 => "EPERM",
            2 => "ENOENT",
            3 => "ESRCH",
            12 => "ENOMEM",
            13 => "EACCES",
            14 => "EFAULT",
            16 => "EBUSY",
            17 => "EEXIST",
            19 => "ENODEV",
            22 => "EINVAL",
            28 => "ENOSPC",
            38 => "ENOSYS",
            62 => "ETIME",
            95 => "EOPNOTSUPP",
            number => return write!(formatter, "errno {number}"),
        };
        write!(formatter, "{name}")
    }
}

impl core::error::Error for Errno {}

/// Which instruction enters the hypervisor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Instruction {
    /// `vmcall`: Intel VT-x.
    Vmcall,
    /// `vmmcall`: AMD-V.
    Vmmcall,
}

/// Whether to use `vmmcall`. Written once, at start, before the first hypercall.
static VMMCALL: AtomicBool = AtomicBool::new(false);

/// Hypercalls made: all, those that sent an event, those that set the timer.
static ALL: Counter = Counter::new();
static SENDS: Counter = Counter::new();
static TIMERS: Counter = Counter::new();

/// How many hypercalls were made: all, events sent among them, timers set among them.
pub(crate) fn counts() -> [u64; 3] {
    [ALL.get(), SENDS.get(), TIMERS.get()]
}

/// Chooses the instruction for all hypercalls to come.
pub(crate) fn use_instruction(instruction: Instruction) {
    VMMCALL.store(instruction == Instruction::Vmmcall, Ordering::Relaxed);
}

/// Negative results of -4095..=-1 are error numbers (`xen/include/public/errno.h`).
fn decode(result: i64) -> Result<u64, Errno> {
    if result < 0 {
        Err(Errno(
            u32::try_from(result.unsigned_abs()).unwrap_or(u32::MAX),
        ))
    } else {
        Ok(result.unsigned_abs())
    }
}

/// Proof that hypercalls work, and all of them as methods: safe code cannot make one on a machine
/// that is not Xen.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Hypercalls(());

impl Hypercalls {
    /// # Safety
    /// This is a Xen guest in ring 0, and [`use_instruction`] was told the right instruction.
    pub(crate) const unsafe fn new() -> Self {
        Self(())
    }

    /// Enters the hypervisor.
    ///
    /// # Safety
    /// `number` and the arguments form a call whose effect on this program's memory the caller
    /// answers for: pointers are valid for what Xen reads and writes through them.
    #[inline]
    unsafe fn call(self, number: u32, first: u64, second: u64, third: u64) -> Result<u64, Errno> {
        ALL.add();
        let result: i64;
        // Xen may scribble over argument registers (a preempted call is restarted with what it
        // left there), so they count as overwritten. Memory counts as changed, because `nomem`
        // is not given.
        if VMMCALL.load(Ordering::Relaxed) {
            // SAFETY: `self` proves that the instruction enters Xen; the rest is the caller's.
            unsafe {
                asm!("vmmcall", inlateout("rax") u64::from(number) => result,
                    inlateout("rdi") first => _, inlateout("rsi") second => _,
                    inlateout("rdx") third => _, options(nostack));
            }
        } else {
            // SAFETY: as above.
            unsafe {
                asm!("vmcall", inlateout("rax") u64::from(number) => result,
                    inlateout("rdi") first => _, inlateout("rsi") second => _,
                    inlateout("rdx") third => _, options(nostack));
            }
        }
        decode(result)
    }

    /// Calls with a pointer to an argument structure as second argument, the usual form.
    ///
    /// # Safety
    /// `T` is the structure that the operation `command` of `number` takes, and the operation
    /// touches no other memory of this program.
    unsafe fn call_with<T>(
        self,
        number: u32,
        command: u64,
        argument: &mut T,
    ) -> Result<u64, Errno> {
        let argument: *mut T = argument;
        // SAFETY: the structure is valid for reads and writes, exclusively borrowed.
        unsafe { self.call(number, command, argument as u64, 0) }
    }

    /// Xen's version: major in bits 31..16, minor in 15..0.
    pub(crate) fn version(self) -> Result<u64, Errno> {
        // SAFETY: the operation takes no pointer.
        unsafe { self.call(abi::XEN_VERSION, abi::XENVER_VERSION, 0, 0) }
    }

    /// What follows the minor version, NUL padded (`xen_extraversion_t`).
    pub(crate) fn extra_version(self) -> Result<[u8; 16], Errno> {
        let mut text = [0_u8; 16];
        // SAFETY: `xen_extraversion_t` is char[16].
        unsafe { self.call_with(abi::XEN_VERSION, abi::XENVER_EXTRAVERSION, &mut text)? };
        Ok(text)
    }

    /// The first 32 `XENFEAT_*` bits (`features.h`).
    pub(crate) fn features(self) -> Result<u32, Errno> {
        let mut info = abi::FeatureInfo {
            index: 0,
            features: 0,
        };
        // SAFETY: the structure of this operation.
        unsafe { self.call_with(abi::XEN_VERSION, abi::XENVER_GET_FEATURES, &mut info)? };
        Ok(info.features)
    }

    /// Makes a page of Xen's appear at guest frame `frame`.
    ///
    /// # Safety
    /// The page at `frame` belongs to the caller, who does not care for its content: Xen takes
    /// it back, and accesses to it reach the page of `space` from now on.
    pub(crate) unsafe fn add_to_physmap(
        self,
        space: u32,
        index: u32,
        frame: u64,
    ) -> Result<(), Errno> {
        let mut argument = abi::AddToPhysmap {
            domain: abi::DOMID_SELF,
            size: 0,
            space,
            index: u64::from(index),
            frame,
        };
        // SAFETY: the structure of this operation; the page it replaces
        // is the caller's to give away.
        unsafe { self.call_with(abi::MEMORY_OP, abi::XENMEM_ADD_TO_PHYSMAP, &mut argument)? };
        Ok(())
    }

    /// Reads an HVM parameter of this domain (`hvm/params.h`).
    pub(crate) fn hvm_param(self, index: u32) -> Result<u64, Errno> {
        let mut argument = abi::HvmParam {
            domain: abi::DOMID_SELF,
            padding: 0,
            index,
            value: 0,
        };
        // SAFETY: the structure of this operation.
        unsafe { self.call_with(abi::HVM_OP, abi::HVMOP_GET_PARAM, &mut argument)? };
        Ok(argument.value)
    }

    /// Has events announced through interrupt `vector`.
    ///
    /// # Safety
    /// `vector` has a handler by the time interrupts are enabled.
    pub(crate) unsafe fn set_callback_vector(self, vector: u8) -> Result<(), Errno> {
        let mut argument = abi::HvmParam {
            domain: abi::DOMID_SELF,
            padding: 0,
            index: abi::HVM_PARAM_CALLBACK_IRQ,
            value: abi::CALLBACK_TYPE_VECTOR | u64::from(vector),
        };
        // SAFETY: the structure of this operation; the interrupts it
        // leads to are handled.
        unsafe { self.call_with(abi::HVM_OP, abi::HVMOP_SET_PARAM, &mut argument)? };
        Ok(())
    }

    /// A new port that domain `remote` may bind to.
    pub(crate) fn allocate_port(self, remote: u16) -> Result<u32, Errno> {
        let mut argument = abi::evtchn_alloc_unbound {
            dom: abi::DOMID_SELF,
            remote_dom: remote,
            port: 0,
        };
        self.event_channel(abi::EVTCHNOP_alloc_unbound, &mut argument)?;
        Ok(argument.port)
    }

    /// A new port for virtual interrupt `virq` of vCPU 0.
    pub(crate) fn bind_virq(self, virq: u32) -> Result<u32, Errno> {
        let mut argument = abi::evtchn_bind_virq {
            virq,
            vcpu: 0,
            port: 0,
        };
        self.event_channel(abi::EVTCHNOP_bind_virq, &mut argument)?;
        Ok(argument.port)
    }

    /// Closes a port.
    pub(crate) fn close_port(self, port: u32) -> Result<(), Errno> {
        self.event_channel(abi::EVTCHNOP_close, &mut abi::evtchn_close { port })
    }

    /// Sends an event to the other end of a port.
    pub(crate) fn send(self, port: u32) -> Result<(), Errno> {
        SENDS.add();
        self.event_channel(abi::EVTCHNOP_send, &mut abi::evtchn_send { port })
    }

    fn event_channel<T>(self, command: u32, argument: &mut T) -> Result<(), Errno> {
        // SAFETY: the callers above, the only ones, pair command and
        // structure.
        unsafe { self.call_with(abi::EVENT_CHANNEL_OP, u64::from(command), argument)? };
        Ok(())
    }

    /// Pages the grant table has, and may grow to.
    pub(crate) fn grant_table_size(self) -> Result<abi::QuerySize, Errno> {
        let mut argument = abi::QuerySize {
            domain: abi::DOMID_SELF,
            ..Default::default()
        };
        self.grant_table(abi::GNTTABOP_QUERY_SIZE, &mut argument)?;
        Ok(argument)
    }

    /// Chooses the layout of grant entries.
    pub(crate) fn set_grant_table_version(self, mut version: u32) -> Result<(), Errno> {
        self.grant_table(abi::GNTTABOP_SET_VERSION, &mut version)
    }

    fn grant_table<T>(self, command: u64, argument: &mut T) -> Result<(), Errno> {
        let argument: *mut T = argument;
        // SAFETY: the callers above, the only ones, pair command and
        // structure; the count of structures is one.
        unsafe { self.call(abi::GRANT_TABLE_OP, command, argument as u64, 1)? };
        Ok(())
    }

    /// Has `VIRQ_TIMER` raised at `deadline` (system time in nanoseconds), or soon if it passed.
    pub(crate) fn set_timer(self, deadline: u64) -> Result<(), Errno> {
        TIMERS.add();
        let mut argument = abi::SetSingleshotTimer {
            deadline,
            flags: 0,
            padding: 0,
        };
        let argument: *mut abi::SetSingleshotTimer = &mut argument;
        // SAFETY: the structure of this operation, for vCPU 0.
        unsafe {
            self.call(
                abi::VCPU_OP,
                abi::VCPUOP_SET_SINGLESHOT_TIMER,
                0,
                argument as u64,
            )?
        };
        Ok(())
    }

    /// Gives the rest of the time slice to others.
    pub(crate) fn yield_now(self) {
        // SAFETY: no pointer.
        let _ = unsafe { self.call(abi::SCHED_OP, u64::from(abi::SCHEDOP_yield), 0, 0) };
    }

    /// Ends this domain for `reason` (`SHUTDOWN_*`). Returns only if Xen refuses.
    pub(crate) fn shutdown(self, reason: u32) -> Result<(), Errno> {
        let mut argument = abi::sched_shutdown { reason };
        // SAFETY: the structure of this operation.
        unsafe {
            self.call_with(
                abi::SCHED_OP,
                u64::from(abi::SCHEDOP_shutdown),
                &mut argument,
            )?
        };
        Ok(())
    }

    /// Starts watchdog `id`, or a new one for 0, anew: it ends this domain unless that is done again
    /// within `seconds`; 0 stops it. Returns the number of a new one.
    pub(crate) fn watchdog(self, id: u32, seconds: u32) -> Result<u64, Errno> {
        let mut argument = abi::Watchdog {
            id,
            timeout: seconds,
        };
        // SAFETY: the structure of this operation.
        unsafe { self.call_with(abi::SCHED_OP, abi::SCHEDOP_WATCHDOG, &mut argument) }
    }

    /// Suspends this domain. Comes back in it, or in a new one that was restored from what it was:
    /// returns whether this is the same domain still.
    pub(crate) fn suspend(self) -> Result<bool, Errno> {
        let mut argument = abi::sched_shutdown {
            reason: abi::SHUTDOWN_suspend,
        };
        // SAFETY: the structure of this operation. Memory is as it was, but for pages that are shared
        // with Xen and other domains, which are read as ones that change at any time.
        let result = unsafe {
            self.call_with(
                abi::SCHED_OP,
                u64::from(abi::SCHEDOP_shutdown),
                &mut argument,
            )?
        };
        // 1 where the toolstack resumed the domain that it had suspended (`sched.h`).
        Ok(result != 0)
    }

    /// Writes to Xen's own console. Most hypervisors allow that in debug builds only.
    pub(crate) fn console_write(self, bytes: &[u8]) -> Result<(), Errno> {
        // SAFETY: Xen only reads the bytes.
        unsafe {
            self.call(
                abi::CONSOLE_IO,
                u64::from(abi::CONSOLEIO_write),
                bytes.len() as u64,
                bytes.as_ptr() as u64,
            )?
        };
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::{Errno, decode};

    #[test]
    fn negative_results_are_error_numbers() {
        assert_eq!(decode(0), Ok(0));
        assert_eq!(decode(0x4_0011), Ok(0x4_0011));
        assert_eq!(decode(-22), Err(Errno(22)));
        assert_eq!(decode(i64::MIN), Err(Errno(u32::MAX)));
        assert_eq!(std::format!("{}", Errno(22)), "EINVAL");
        assert_eq!(std::format!("{}", Errno(4000)), "errno 4000");
    }
}
