//! What the device offers and which of it is used.

use bitflags::bitflags;

bitflags! {
    /// The features used (virtio 1.2, 5.1.3 and 6).
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Features: u64 {
        /// The device completes checksums.
        const CSUM = 1 << 0;
        /// The driver takes frames whose checksum is not complete.
        const GUEST_CSUM = 1 << 1;
        /// The device tells the MTU.
        const MTU = 1 << 3;
        /// The device tells its address.
        const MAC = 1 << 5;
        /// The driver takes unsegmented TCP over IPv4.
        const GUEST_TSO4 = 1 << 7;
        /// The driver takes unsegmented TCP over IPv6.
        const GUEST_TSO6 = 1 << 8;
        /// The device segments TCP over IPv4.
        const HOST_TSO4 = 1 << 11;
        /// The device segments TCP over IPv6.
        const HOST_TSO6 = 1 << 12;
        /// A received frame may be spread over several buffers.
        const MRG_RXBUF = 1 << 15;
        /// The device tells whether its link is up.
        const STATUS = 1 << 16;
        /// Both sides tell up to which entry they want to hear nothing.
        const EVENT_IDX = 1 << 29;
        /// The device follows version 1 of the standard.
        const VERSION_1 = 1 << 32;
    }
}

impl Features {
    /// What to use of what is `offered`: all that is known and complete. A feature that builds on
    /// an absent one is left out (virtio 1.2, 5.1.3.1), and unsegmented frames are taken only
    /// where they can be spread over buffers.
    pub fn choose(offered: u64) -> Self {
        let mut chosen = Self::from_bits_truncate(offered);
        if !chosen.contains(Self::CSUM) {
            chosen.remove(Self::HOST_TSO4 | Self::HOST_TSO6);
        }
        if !chosen.contains(Self::GUEST_CSUM | Self::MRG_RXBUF) {
            chosen.remove(Self::GUEST_TSO4 | Self::GUEST_TSO6);
        }
        // A larger MTU than usual needs room for its frames.
        if !chosen.contains(Self::MRG_RXBUF) {
            chosen.remove(Self::MTU);
        }
        chosen
    }

    /// Bytes of the header in front of each frame: version 1 and mergeable buffers count
    /// buffers in it.
    pub fn header_length(self) -> usize {
        if self.intersects(Self::VERSION_1 | Self::MRG_RXBUF) {
            12
        } else {
            10
        }
    }
}
