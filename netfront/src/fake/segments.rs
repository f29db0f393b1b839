//! What a network card or Linux makes of a packet that is to be cut.

use alloc::vec;
use alloc::vec::Vec;

use super::ReceivedFrame;
use crate::checksum::{IpVersion, Segment};

const ETHERNET_HEADER: usize = 14;
/// Where a TCP header has its sequence number, its own length and its flags (RFC 9293).
const SEQUENCE: usize = 4;
const DATA_OFFSET: usize = 12;
const FLAGS: usize = 13;
const CWR: u8 = 0x80;
const FIN_AND_PUSH: u8 = 0x09;

impl ReceivedFrame {
    /// The frames that leave the host: itself, or what it is to be cut into. Each gets its
    /// checksum from the sum that is in the field of the whole.
    ///
    /// # Panics
    /// If it is to be cut and is no TCP.
    pub fn segments(&self) -> Vec<Vec<u8>> {
        let Some(segmentation) = self.segmentation else {
            return vec![self.bytes.clone()];
        };
        let whole = Segment::locate(&self.bytes).expect("only TCP is cut");
        let tcp = whole.range.start;
        let header = usize::from(self.bytes[tcp + DATA_OFFSET] >> 4) * 4;
        let (headers, payload) = self.bytes.split_at(tcp + header);
        let pieces = payload.chunks(usize::from(segmentation.segment_bytes.get()));
        let count = pieces.len();
        let mut sequence = u32_at(headers, tcp + SEQUENCE);
        let mut segments = Vec::new();
        for (index, piece) in pieces.enumerate() {
            let mut frame = headers.to_vec();
            frame.extend(piece);
            set_length(&mut frame, segmentation.ip_version, index as u16);
            frame[tcp + SEQUENCE..][..4].copy_from_slice(&sequence.to_be_bytes());
            if index > 0 {
                frame[tcp + FLAGS] &= !CWR;
            }
            if index + 1 < count {
                frame[tcp + FLAGS] &= !FIN_AND_PUSH;
            }
            // The pseudo-header has the length: what this segment is shorter is subtracted.
            let shorter = !((payload.len() - piece.len()) as u16);
            let blank = u16_at(&frame, whole.field);
            frame[whole.field..][..2].fill(0);
            let words = frame[tcp..].chunks(2).map(|pair| match *pair {
                [high, low] => u16::from_be_bytes([high, low]),
                _ => u16::from_be_bytes([pair[0], 0]),
            });
            let sum = words.chain([blank, shorter]).map(u64::from).sum();
            frame[whole.field..][..2].copy_from_slice(&(!folded(sum)).to_be_bytes());
            sequence = sequence.wrapping_add(piece.len() as u32);
            segments.push(frame);
        }
        segments
    }
}

/// Writes the IP packet's length, and what else differs between the segments' IP headers.
fn set_length(frame: &mut [u8], ip_version: IpVersion, index: u16) {
    let ip = ETHERNET_HEADER;
    match ip_version {
        IpVersion::V4 => {
            let length = (frame.len() - ip) as u16;
            frame[ip + 2..][..2].copy_from_slice(&length.to_be_bytes());
            let identification = u16_at(frame, ip + 4).wrapping_add(index);
            frame[ip + 4..][..2].copy_from_slice(&identification.to_be_bytes());
            let header = usize::from(frame[ip] & 0xf) * 4;
            frame[ip + 10..][..2].fill(0);
            let words = frame[ip..ip + header].chunks(2);
            let sum = words
                .map(|pair| u64::from(u16::from_be_bytes([pair[0], pair[1]])))
                .sum();
            frame[ip + 10..][..2].copy_from_slice(&(!folded(sum)).to_be_bytes());
        }
        IpVersion::V6 => {
            let length = (frame.len() - ip - 40) as u16;
            frame[ip + 4..][..2].copy_from_slice(&length.to_be_bytes());
        }
    }
}

fn folded(mut sum: u64) -> u16 {
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum as u16
}

fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_be_bytes([bytes[at], bytes[at + 1]])
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_be_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}
