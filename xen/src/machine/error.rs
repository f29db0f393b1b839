//! What can go wrong at the start.

use core::fmt;

use xen_proto::hypervisor::ResourceError;

use crate::hypercall::Errno;
use crate::pages::RangeError;

/// Why [`Machine::start`](crate::Machine::start) failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StartError {
    /// There is one machine, and it runs.
    AlreadyStarted,
    /// The hypervisor refused; `operation` names the hypercall.
    Refused {
        /// The hypercall and its sub-operation.
        operation: &'static str,
        /// Why.
        errno: Errno,
    },
    /// The hypervisor lacks something that this program cannot do without.
    Lacks {
        /// The name of the feature, as in `features.h`.
        feature: &'static str,
    },
    /// CPUID names no known maker of processors, and the hypercall page no known instruction.
    UnknownProcessor,
    /// [`StartOptions::pages`](crate::StartOptions::pages) is of no use.
    Pages(RangeError),
    /// [`StartOptions::pages`](crate::StartOptions::pages) is too small.
    OutOfPages,
}

impl fmt::Display for StartError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AlreadyStarted => write!(formatter, "the machine was already started"),
            Self::Refused { operation, errno } => {
                write!(formatter, "xen refused {operation}: {errno}")
            }
            Self::Lacks { feature } => write!(formatter, "xen lacks {feature}"),
            Self::UnknownProcessor => write!(
                formatter,
                "neither cpuid nor xen's hypercall page tells which instruction makes hypercalls"
            ),
            Self::Pages(error) => write!(formatter, "pages for sharing: {error}"),
            Self::OutOfPages => write!(formatter, "too few pages for sharing"),
        }
    }
}

impl core::error::Error for StartError {}

/// Why [`Machine::suspend`](crate::Machine::suspend) failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SuspendError {
    /// Xen refused to suspend the domain. Nothing changed.
    Refused(Errno),
    /// The guest was restored in a new domain that does not give it what the old one did. It cannot
    /// go on.
    Restore(StartError),
}

impl fmt::Display for SuspendError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused(errno) => {
                write!(
                    formatter,
                    "xen refused SCHEDOP_shutdown to suspend: {errno}"
                )
            }
            Self::Restore(error) => write!(formatter, "cannot go on where restored: {error}"),
        }
    }
}

impl core::error::Error for SuspendError {}

/// Why there is no connection to xenstore.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StoreConnectionError {
    /// The toolstack gave this domain none.
    Absent,
    /// It was handed out before.
    Taken,
    /// Its event channel is unusable.
    Port(ResourceError),
}

impl fmt::Display for StoreConnectionError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Absent => write!(formatter, "the toolstack provided no xenstore ring"),
            Self::Taken => write!(formatter, "the xenstore ring is in use already"),
            Self::Port(error) => write!(formatter, "event channel of xenstore: {error}"),
        }
    }
}

impl core::error::Error for StoreConnectionError {}
