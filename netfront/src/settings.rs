//! What the host says about an interface in xenstore, understood and checked.
//!
//! Pure: strings in, values out. What is missing gets its default; what is wrong becomes a
//! [`Complaint`] naming node and value. Only a host that leaves no way to run
//! ([`SettingsError`]) stops the interface from connecting.

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

/// IP packet size of plain Ethernet, in bytes: what holds where the host says nothing.
pub const DEFAULT_MTU: usize = 1500;

/// Least MTU that carries IP at all, in bytes (RFC 791).
pub const MINIMUM_MTU: usize = 68;

/// Bytes of an Ethernet header.
pub const ETHERNET_HEADER: usize = 14;

/// Largest MTU whose frames a transmit request can name, in bytes.
pub const MAXIMUM_MTU: usize = crate::wire::MAXIMUM_TRANSMIT_BYTES - ETHERNET_HEADER;

/// Longest text of an assigned address that is passed on, in bytes: room for several IPv6
/// addresses.
const MAXIMUM_ADDRESS_BYTES: usize = 256;

/// Longest part of a foreign value that a message repeats, in characters.
const QUOTED_CHARACTERS: usize = 40;

/// The nodes of xenstore that the driver reads, as raw texts. `None` is "absent".
#[derive(Clone, Debug, Default)]
pub struct Nodes {
    /// Frontend's `mac`.
    pub mac: Option<String>,
    /// Frontend's `mtu`.
    pub mtu: Option<String>,
    /// Backend's `ip`.
    pub ip: Option<String>,
    /// Backend's `feature-rx-copy`.
    pub rx_copy: Option<String>,
    /// Backend's `feature-sg`.
    pub scatter_gather: Option<String>,
    /// Backend's `feature-split-event-channels`.
    pub split_event_channels: Option<String>,
    /// Backend's `feature-no-csum-offload`.
    pub no_checksum_offload: Option<String>,
    /// Backend's `feature-ipv6-csum-offload`.
    pub ipv6_checksum_offload: Option<String>,
    /// Backend's `feature-gso-tcpv4`.
    pub ipv4_segmentation: Option<String>,
    /// Backend's `feature-gso-tcpv6`.
    pub ipv6_segmentation: Option<String>,
}

/// What an interface is to be, after negotiation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The Ethernet address.
    pub mac: [u8; 6],
    /// Largest IP packet in bytes.
    pub mtu: usize,
    /// The address xl assigned (`vif = ['ip=...']`), as it is written there.
    pub assigned_address: Option<String>,
    /// The backend takes packets of several slots.
    pub scatter_gather: bool,
    /// One event channel for each direction.
    pub split_event_channels: bool,
    /// The backend completes TCP and UDP checksums over IPv4.
    pub checksum_ipv4: bool,
    /// The backend completes TCP and UDP checksums over IPv6.
    pub checksum_ipv6: bool,
    /// The backend cuts long packets of TCP over IPv4 into segments. Only with
    /// `scatter_gather` and `checksum_ipv4`.
    pub segmentation_ipv4: bool,
    /// The same over IPv6, only with `scatter_gather` and `checksum_ipv6`.
    pub segmentation_ipv6: bool,
}

impl Settings {
    /// Understands `nodes`, and says what was wrong with those it could do without.
    ///
    /// # Errors
    /// [`SettingsError`] when the interface cannot run with what the host says.
    pub fn negotiate(nodes: &Nodes) -> Result<(Self, Vec<Complaint>), SettingsError> {
        let mac = parse_mac(nodes.mac.as_deref())?;
        let mut complaints = Vec::new();
        let mut flag = |node, value: &Option<String>, default| match value.as_deref() {
            None => default,
            Some(text) => match text.trim().parse::<u32>() {
                Ok(number) => number != 0,
                Err(_) => {
                    complaints.push(Complaint::new(node, text, "is not a number"));
                    default
                }
            },
        };
        if !flag("feature-rx-copy", &nodes.rx_copy, true) {
            return Err(SettingsError::CopyingNotOffered);
        }
        let scatter_gather = flag("feature-sg", &nodes.scatter_gather, false);
        let split_event_channels = flag(
            "feature-split-event-channels",
            &nodes.split_event_channels,
            false,
        );
        let checksum_ipv4 = !flag("feature-no-csum-offload", &nodes.no_checksum_offload, false);
        let checksum_ipv6 = flag(
            "feature-ipv6-csum-offload",
            &nodes.ipv6_checksum_offload,
            false,
        );
        // A segment takes several pages and a checksum of its own.
        let segmentation_ipv4 = flag("feature-gso-tcpv4", &nodes.ipv4_segmentation, false)
            && scatter_gather
            && checksum_ipv4;
        let segmentation_ipv6 = flag("feature-gso-tcpv6", &nodes.ipv6_segmentation, false)
            && scatter_gather
            && checksum_ipv6;
        let mtu = match nodes.mtu.as_deref().map(parse_mtu) {
            None => DEFAULT_MTU,
            Some(Ok(mtu)) if mtu > DEFAULT_MTU && !scatter_gather => {
                complaints.push(Complaint::new(
                    "mtu",
                    nodes.mtu.as_deref().unwrap_or_default(),
                    "needs feature-sg, which the backend does not offer",
                ));
                DEFAULT_MTU
            }
            Some(Ok(mtu)) => mtu,
            Some(Err(complaint)) => {
                complaints.push(complaint);
                DEFAULT_MTU
            }
        };
        let assigned_address = match parse_assigned(nodes.ip.as_deref()) {
            Ok(address) => address.map(String::from),
            Err(complaint) => {
                complaints.push(complaint);
                None
            }
        };
        let settings = Self {
            mac,
            mtu,
            assigned_address,
            scatter_gather,
            split_event_channels,
            checksum_ipv4,
            checksum_ipv6,
            segmentation_ipv4,
            segmentation_ipv6,
        };
        Ok((settings, complaints))
    }
}

/// A node whose value the driver cannot use, and goes without.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Complaint {
    node: &'static str,
    value: String,
    problem: &'static str,
}

impl Complaint {
    fn new(node: &'static str, value: &str, problem: &'static str) -> Self {
        Self {
            node,
            value: quoted(value),
            problem,
        }
    }
}

impl fmt::Display for Complaint {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            formatter,
            "{} = {:?} {}",
            self.node, self.value, self.problem
        )
    }
}

/// The host says something that the interface cannot run with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SettingsError {
    /// The frontend's directory has no `mac`.
    MacMissing,
    /// `mac` is not six two-digit hexadecimal numbers with colons between them.
    MacMalformed(String),
    /// `mac` is all zero, or a group address, which no interface can have.
    MacNotUnicast(String),
    /// The backend has `feature-rx-copy = 0`: it only flips pages, as nobody has for long.
    CopyingNotOffered,
}

impl fmt::Display for SettingsError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::MacMissing => write!(formatter, "mac is missing"),
            Self::MacMalformed(value) => write!(
                formatter,
                "mac = {value:?} is not of the form 00:16:3e:12:34:56"
            ),
            Self::MacNotUnicast(value) => {
                write!(
                    formatter,
                    "mac = {value:?} is not the address of one station"
                )
            }
            Self::CopyingNotOffered => write!(
                formatter,
                "feature-rx-copy = 0: the backend cannot copy received packets"
            ),
        }
    }
}

impl core::error::Error for SettingsError {}

/// Understands the value of `mac`.
///
/// # Errors
/// [`SettingsError`] saying what is wrong with it.
pub(crate) fn parse_mac(text: Option<&str>) -> Result<[u8; 6], SettingsError> {
    let text = text.ok_or(SettingsError::MacMissing)?.trim();
    let malformed = || SettingsError::MacMalformed(quoted(text));
    let mut mac = [0; 6];
    let mut parts = text.split(':');
    for byte in &mut mac {
        let part = parts.next().ok_or_else(malformed)?;
        // from_str_radix alone would take "+1".
        if part.len() != 2 || !part.bytes().all(|digit| digit.is_ascii_hexdigit()) {
            return Err(malformed());
        }
        *byte = u8::from_str_radix(part, 16).map_err(|_| malformed())?;
    }
    if parts.next().is_some() {
        return Err(malformed());
    }
    if mac == [0; 6] || mac[0] & 1 != 0 {
        return Err(SettingsError::MacNotUnicast(quoted(text)));
    }
    Ok(mac)
}

/// Understands the value of `ip`, as far as it is passed on: nothing, or a text that is not too
/// long.
///
/// # Errors
/// [`Complaint`] about one that is.
pub(crate) fn parse_assigned(text: Option<&str>) -> Result<Option<&str>, Complaint> {
    match text.map(str::trim) {
        None | Some("") => Ok(None),
        Some(text) if text.len() > MAXIMUM_ADDRESS_BYTES => {
            Err(Complaint::new("ip", text, "is longer than 256 bytes"))
        }
        Some(text) => Ok(Some(text)),
    }
}

fn parse_mtu(text: &str) -> Result<usize, Complaint> {
    let complaint = |problem| Complaint::new("mtu", text, problem);
    match text.trim().parse::<usize>() {
        Err(_) => Err(complaint("is not a number; using 1500")),
        Ok(mtu) if mtu < MINIMUM_MTU => Err(complaint("is below 68; using 1500")),
        Ok(mtu) if mtu > MAXIMUM_MTU => Err(complaint("is above 65521; using 1500")),
        Ok(mtu) => Ok(mtu),
    }
}

/// The start of a foreign text: a message must not grow with it.
fn quoted(text: &str) -> String {
    text.chars().take(QUOTED_CHARACTERS).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString;

    fn nodes() -> Nodes {
        Nodes {
            mac: text("00:16:3e:12:34:56"),
            ..Nodes::default()
        }
    }

    fn text(text: &str) -> Option<String> {
        Some(text.to_string())
    }

    #[test]
    fn a_host_that_says_little_gets_the_defaults() {
        let (settings, complaints) = Settings::negotiate(&nodes()).unwrap();
        assert_eq!(
            settings,
            Settings {
                mac: [0x00, 0x16, 0x3e, 0x12, 0x34, 0x56],
                mtu: 1500,
                assigned_address: None,
                scatter_gather: false,
                split_event_channels: false,
                checksum_ipv4: true,
                checksum_ipv6: false,
                segmentation_ipv4: false,
                segmentation_ipv6: false,
            }
        );
        assert!(complaints.is_empty());
    }

    #[test]
    fn everything_linux_offers_is_taken() {
        let nodes = Nodes {
            mac: text("AA:bb:0C:00:00:fF"),
            mtu: text("9000"),
            ip: text("10.0.0.2"),
            rx_copy: text("1"),
            scatter_gather: text("1"),
            split_event_channels: text("1"),
            no_checksum_offload: text("1"),
            ipv6_checksum_offload: text("1"),
            ipv4_segmentation: text("1"),
            ipv6_segmentation: text("1"),
        };
        let (settings, complaints) = Settings::negotiate(&nodes).unwrap();
        assert_eq!(settings.mac, [0xaa, 0xbb, 0x0c, 0, 0, 0xff]);
        assert_eq!(settings.mtu, 9000);
        assert_eq!(settings.assigned_address.as_deref(), Some("10.0.0.2"));
        assert!(settings.scatter_gather && settings.split_event_channels);
        assert!(!settings.checksum_ipv4 && settings.checksum_ipv6);
        assert!(!settings.segmentation_ipv4 && settings.segmentation_ipv6);
        assert!(complaints.is_empty());
    }

    #[test]
    fn segmentation_needs_pages_and_checksums() {
        let everything = Nodes {
            scatter_gather: text("1"),
            ipv6_checksum_offload: text("1"),
            ipv4_segmentation: text("1"),
            ipv6_segmentation: text("1"),
            ..nodes()
        };
        let offered = |nodes: &Nodes| {
            let (settings, _) = Settings::negotiate(nodes).unwrap();
            (settings.segmentation_ipv4, settings.segmentation_ipv6)
        };
        assert_eq!(offered(&everything), (true, true));
        let without = |change: fn(&mut Nodes)| {
            let mut nodes = everything.clone();
            change(&mut nodes);
            offered(&nodes)
        };
        assert_eq!(without(|nodes| nodes.scatter_gather = None), (false, false));
        assert_eq!(
            without(|nodes| nodes.no_checksum_offload = text("1")),
            (false, true)
        );
        assert_eq!(
            without(|nodes| nodes.ipv6_checksum_offload = None),
            (true, false)
        );
        assert_eq!(
            without(|nodes| nodes.ipv4_segmentation = text("0")),
            (false, true)
        );
        assert_eq!(
            without(|nodes| nodes.ipv6_segmentation = text("yes")),
            (true, false)
        );
    }

    #[test]
    fn malformed_macs_name_the_value() {
        for bad in [
            "",
            "00:16:3e:12:34",
            "00:16:3e:12:34:56:78",
            "00:16:3e:12:34:5g",
            "0:16:3e:12:34:56",
            "000:16:3e:12:34:5",
            "+1:16:3e:12:34:56",
            "00-16-3e-12-34-56",
            "\u{fe0f}:16:3e:12:34:56",
        ] {
            let nodes = Nodes {
                mac: text(bad),
                ..nodes()
            };
            let error = Settings::negotiate(&nodes).unwrap_err();
            assert_eq!(error, SettingsError::MacMalformed(bad.to_string()));
        }
        let missing = Nodes::default();
        assert_eq!(
            Settings::negotiate(&missing).unwrap_err(),
            SettingsError::MacMissing
        );
        for group in [
            "01:16:3e:12:34:56",
            "ff:ff:ff:ff:ff:ff",
            "00:00:00:00:00:00",
        ] {
            let nodes = Nodes {
                mac: text(group),
                ..nodes()
            };
            let error = Settings::negotiate(&nodes).unwrap_err();
            assert_eq!(error, SettingsError::MacNotUnicast(group.to_string()));
        }
    }

    #[test]
    fn an_impossible_mtu_is_complained_about_and_not_used() {
        for bad in ["0", "67", "65522", "65536", "4294967296", "-1", "", "big"] {
            let nodes = Nodes {
                mtu: text(bad),
                scatter_gather: text("1"),
                ..nodes()
            };
            let (settings, complaints) = Settings::negotiate(&nodes).unwrap();
            assert_eq!(settings.mtu, 1500, "{bad}");
            assert_eq!(complaints.len(), 1, "{bad}");
            let message = complaints[0].to_string();
            assert!(message.starts_with("mtu = "), "{message}");
            assert!(message.contains(bad), "{message}");
        }
        for good in [68, 1280, 1500, 9000, 65521] {
            let nodes = Nodes {
                mtu: text(&good.to_string()),
                scatter_gather: text("1"),
                ..nodes()
            };
            let (settings, complaints) = Settings::negotiate(&nodes).unwrap();
            assert_eq!(settings.mtu, good);
            assert!(complaints.is_empty());
        }
    }

    #[test]
    fn a_large_mtu_needs_scatter_gather() {
        let nodes = Nodes {
            mtu: text("9000"),
            ..nodes()
        };
        let (settings, complaints) = Settings::negotiate(&nodes).unwrap();
        assert_eq!(settings.mtu, 1500);
        assert!(complaints[0].to_string().contains("feature-sg"));
    }

    #[test]
    fn features_that_are_not_numbers_are_not_offered() {
        let nodes = Nodes {
            scatter_gather: text("yes"),
            split_event_channels: text("-1"),
            no_checksum_offload: text("18446744073709551616"),
            ipv6_checksum_offload: text(""),
            ..nodes()
        };
        let (settings, complaints) = Settings::negotiate(&nodes).unwrap();
        assert!(!settings.scatter_gather && !settings.split_event_channels);
        assert!(settings.checksum_ipv4 && !settings.checksum_ipv6);
        assert_eq!(complaints.len(), 4);
        assert_eq!(
            complaints[0].to_string(),
            "feature-sg = \"yes\" is not a number"
        );
    }

    #[test]
    fn a_backend_that_cannot_copy_is_refused() {
        let nodes = Nodes {
            rx_copy: text("0"),
            ..nodes()
        };
        assert_eq!(
            Settings::negotiate(&nodes).unwrap_err(),
            SettingsError::CopyingNotOffered
        );
    }

    #[test]
    fn messages_do_not_grow_with_the_value() {
        let nodes = Nodes {
            mtu: Some("9".repeat(4000)),
            ip: Some("1".repeat(4000)),
            ..nodes()
        };
        let (settings, complaints) = Settings::negotiate(&nodes).unwrap();
        assert_eq!(settings.assigned_address, None);
        assert!(
            complaints
                .iter()
                .all(|complaint| complaint.to_string().len() < 120)
        );
    }
}
