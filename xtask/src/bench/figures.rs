//! What is measured: names, units, which way is better, and what is aimed at.

/// A kind of figure.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Figure {
    /// In reports.
    pub(crate) name: &'static str,
    pub(crate) unit: &'static str,
    pub(crate) better: Better,
    /// The ratios of rekernel to Linux PVH and to the better of the Linux guests that are
    /// aimed at.
    pub(crate) target: (Option<f64>, Option<f64>),
    /// What is aimed at for rekernel by itself: only where a value does not depend on the speed
    /// of the machine.
    pub(crate) bound: Option<f64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Better {
    Lower,
    Higher,
}

impl Better {
    /// Whether `ratio` is at least as good as `target`.
    pub(crate) fn meets(self, ratio: f64, target: f64) -> bool {
        match self {
            Self::Lower => ratio <= target,
            Self::Higher => ratio >= target,
        }
    }

    /// The better of two values.
    pub(crate) fn best(self, one: f64, other: f64) -> f64 {
        match self {
            Self::Lower => one.min(other),
            Self::Higher => one.max(other),
        }
    }
}

macro_rules! figures {
    (@bound) => { None };
    (@bound $bound:literal) => { Some($bound) };
    ($($constant:ident: $name:literal, $unit:literal, $better:ident, $pvh:expr, $best:expr $(, bound $bound:literal)?;)*) => {
        $(pub(crate) const $constant: Figure = Figure {
            name: $name,
            unit: $unit,
            better: Better::$better,
            target: ($pvh, $best),
            bound: figures!(@bound $($bound)?),
        };)*

        /// All of them, in the order of reports.
        pub(crate) const ALL: &[Figure] = &[$($constant),*];
    };
}

figures! {
    FIRST_BYTE: "unpause to first HTTP byte", "ms", Lower, Some(0.01), Some(0.025);
    OWN_BOOT: "entry to serving, by rekernel's clock", "ms", Lower, None, None;
    CREATE: "xl create (toolstack)", "ms", Lower, None, None;
    LEAST_MEMORY: "least memory that serves", "MiB", Lower, Some(1.0 / 6.0), None;
    IMAGE_SIZE: "image as shipped", "KiB", Lower, None, None;
    PING: "ICMP round trip, median", "us", Lower, None, None;
    ROUND_TRIP: "keep-alive round trip, median", "us", Lower, Some(0.5), Some(0.8);
    ROUND_TRIP_P99: "keep-alive round trip, p99", "us", Lower, Some(0.5), Some(0.8);
    CPU_PER_REQUEST: "guest CPU per keep-alive request", "us", Lower, Some(0.25), Some(0.5);
    CONNECTIONS: "new connections", "per s", Higher, Some(2.0), Some(1.2);
    CPU_PER_CONNECTION: "guest CPU per new connection", "us", Lower, None, None;
    WRK_1: "wrk, 1 connection", "requests/s", Higher, None, None;
    WRK_8: "wrk, 8 connections", "requests/s", Higher, None, None;
    WRK_64: "wrk, 64 connections", "requests/s", Higher, None, None;
    WRK_8_CPU: "guest CPU per request, wrk 8", "us", Lower, None, None;
    WRK_64_CPU: "guest CPU per request, wrk 64", "us", Lower, None, None;
    TO_GUEST_1: "TCP to the guest, 1 stream", "MiB/s", Higher, Some(2.0), Some(1.0);
    TO_GUEST_8: "TCP to the guest, 8 streams", "MiB/s", Higher, Some(2.0), Some(1.0);
    FROM_GUEST_1: "TCP from the guest, 1 stream", "MiB/s", Higher, Some(2.0), Some(1.0);
    FROM_GUEST_8: "TCP from the guest, 8 streams", "MiB/s", Higher, Some(2.0), Some(1.0);
    CPU_TO_GUEST_1: "guest CPU per MiB in, 1 stream", "ms", Lower, Some(1.0 / 3.0), Some(1.0);
    CPU_TO_GUEST_8: "guest CPU per MiB in, 8 streams", "ms", Lower, Some(1.0 / 3.0), Some(1.0);
    CPU_FROM_GUEST_1: "guest CPU per MiB out, 1 stream", "ms", Lower, Some(1.0 / 3.0), Some(1.0);
    CPU_FROM_GUEST_8: "guest CPU per MiB out, 8 streams", "ms", Lower, Some(1.0 / 3.0), Some(1.0);
    DATAGRAMS: "UDP datagrams echoed", "per s", Higher, None, None;
    CPU_PER_DATAGRAM: "guest CPU per UDP datagram", "us", Lower, None, None;
    BESIDE_IDLE: "requests/s beside idle connections / without", "", Higher, None, None, bound 0.9;
    MEMORY_PER_HTTP: "memory per idle HTTP connection", "KiB", Lower, None, None, bound 8.0;
    MEMORY_PER_TCP: "memory per idle TCP connection", "KiB", Lower, None, None, bound 8.0;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_distinct_because_samples_are_found_by_them() {
        let mut names: Vec<_> = ALL.iter().map(|figure| figure.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), ALL.len());
    }

    #[test]
    fn targets_are_met_from_the_right_side() {
        assert!(Better::Lower.meets(0.4, 0.5) && !Better::Lower.meets(0.6, 0.5));
        assert!(Better::Higher.meets(2.0, 2.0) && !Better::Higher.meets(1.9, 2.0));
        assert_eq!(Better::Lower.best(1.0, 2.0), 1.0);
        assert_eq!(Better::Higher.best(1.0, 2.0), 2.0);
    }
}
