//! Why the network is silent: from what was observed to what a person should look at.
//!
//! The observer ([`super::silence`]) gathers [`Facts`]; [`diagnose`] judges them and does nothing else.

use alloc::string::String;
use core::fmt;
use core::net::{IpAddr, Ipv4Addr};

use super::link::EthernetText;

/// What was observed of an interface since its link last came up, or went down.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts {
    /// Where its device stands.
    pub link: LinkFacts,
    /// How it is to get an IPv4 address, and whether it did.
    pub ipv4: Ipv4Facts,
    /// Somebody else claims one of its addresses.
    pub clash: Option<Clash>,
    /// The router to other networks, if it was asked for its Ethernet address, and whether it told.
    pub gateway: Option<(Ipv4Addr, Answered)>,
    /// Frames sent since the link came up.
    pub sent_frames: u64,
    /// Frames received since the link came up: all, also those for everybody.
    pub received_frames: u64,
    /// Those for this interface alone, since somebody last looked closely.
    pub received_for_us: u64,
}

/// An address that two have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Clash {
    /// The address.
    pub address: IpAddr,
    /// Our Ethernet address.
    pub own: [u8; 6],
    /// The other's.
    pub claimant: [u8; 6],
}

/// Where a device stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LinkFacts {
    /// Frames can flow.
    Up,
    /// They cannot; what the driver knows about the other end.
    Down {
        /// For people: `frontend is Initialised, backend is InitWait`.
        because: Option<String>,
    },
}

/// Where an interface stands with its IPv4 address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ipv4Facts {
    /// It is to have none.
    Off,
    /// It has one, wherever from.
    Configured,
    /// It asks for one, and no DHCP server has answered.
    Asking,
}

/// Whether a question was answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answered {
    /// It was.
    Yes,
    /// It was not.
    No,
}

/// What is to be said of an interface, or of there being none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Diagnosis {
    /// Nothing is known to be wrong.
    Works,
    /// The host gave this guest no network device.
    NoInterface,
    /// There is a device, and its other end does not connect.
    NotConnected {
        /// What the driver knows.
        because: Option<String>,
    },
    /// Somebody else has one of our addresses.
    AddressClash(Clash),
    /// Others are heard, and no DHCP server answers.
    NoDhcpAnswer {
        /// Frames of others.
        received_frames: u64,
    },
    /// Frames go out, and nobody answers: a wrong bridge, or one that leads nowhere.
    NobodyAnswers {
        /// Frames sent in vain.
        sent_frames: u64,
        /// Frames of others, none of them for us.
        received_frames: u64,
        /// Who should have answered.
        asked: Asked,
    },
}

/// Who was asked and did not answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asked {
    /// The router.
    Gateway(Ipv4Addr),
    /// Any DHCP server.
    DhcpServer,
    /// Nobody in particular.
    Everybody,
}

/// What the facts mean.
pub fn diagnose(facts: &Facts) -> Diagnosis {
    if let LinkFacts::Down { because } = &facts.link {
        return Diagnosis::NotConnected {
            because: because.clone(),
        };
    }
    // Before all that may follow from it: answers go to the other one.
    if let Some(clash) = facts.clash {
        return Diagnosis::AddressClash(clash);
    }
    let nobody = |asked| Diagnosis::NobodyAnswers {
        sent_frames: facts.sent_frames,
        received_frames: facts.received_frames,
        asked,
    };
    match (facts.ipv4, facts.gateway) {
        // Not a single frame: whoever is on that network, it is none with a DHCP server.
        (Ipv4Facts::Asking, _) if facts.received_frames == 0 => nobody(Asked::DhcpServer),
        (Ipv4Facts::Asking, _) => Diagnosis::NoDhcpAnswer {
            received_frames: facts.received_frames,
        },
        (_, Some((gateway, Answered::No))) => nobody(Asked::Gateway(gateway)),
        _ if facts.received_for_us > 0 => Diagnosis::Works,
        _ if facts.received_frames == 0 && facts.sent_frames > 0 => nobody(Asked::Everybody),
        _ => Diagnosis::Works,
    }
}

impl Diagnosis {
    /// Whether something is wrong.
    pub fn is_fault(&self) -> bool {
        *self != Self::Works
    }

    /// A word for scripts.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Works => "works",
            Self::NoInterface => "no_interface",
            Self::NotConnected { .. } => "not_connected",
            Self::AddressClash(_) => "address_clash",
            Self::NoDhcpAnswer { .. } => "no_dhcp_answer",
            Self::NobodyAnswers { .. } => "nobody_answers",
        }
    }
}

/// What is known, then what to look at.
impl fmt::Display for Diagnosis {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Works => formatter.write_str("nothing is known to be wrong"),
            Self::NoInterface => formatter.write_str(
                "no network interface: the host gave this guest no network device; \
                 xl's configuration needs a vif, QEMU a virtio-net device",
            ),
            Self::NotConnected { because } => {
                formatter
                    .write_str("the network device is there, and its other end does not connect")?;
                if let Some(because) = because {
                    write!(formatter, ": {because}")?;
                }
                formatter
                    .write_str("; look at the backend: its driver, its hotplug script, its log")
            }
            Self::AddressClash(Clash {
                address,
                own,
                claimant,
            }) => write!(
                formatter,
                "duplicate address: {address} is ours ({}), and {} claims it too; \
                 give one of the two another address",
                EthernetText(*own),
                EthernetText(*claimant)
            ),
            Self::NoDhcpAnswer { received_frames } => write!(
                formatter,
                "no DHCP server answers, though {received_frames} frames of others were received; look whether \
                 there is one on this bridge or VLAN, or set ip= on the command line"
            ),
            Self::NobodyAnswers {
                sent_frames,
                received_frames,
                asked,
            } => {
                match asked {
                    Asked::Gateway(gateway) => {
                        write!(formatter, "the gateway {gateway} does not answer ARP")?
                    }
                    Asked::DhcpServer => formatter.write_str("no DHCP server answers")?,
                    Asked::Everybody => formatter.write_str("nobody is heard")?,
                }
                write!(
                    formatter,
                    ": the link is up, {sent_frames} frames were sent and {received_frames} received; look \
                     whether the interface is on the right bridge or VLAN"
                )?;
                match asked {
                    Asked::Gateway(_) => formatter.write_str(", and whether gw= is right"),
                    Asked::DhcpServer => formatter.write_str(", or set ip= on the command line"),
                    Asked::Everybody => Ok(()),
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::string::ToString;

    use super::*;

    const GATEWAY: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);

    /// A link that is up, with a static address, after a while without an answer.
    fn silent() -> Facts {
        Facts {
            link: LinkFacts::Up,
            ipv4: Ipv4Facts::Configured,
            clash: None,
            gateway: None,
            sent_frames: 6,
            received_frames: 0,
            received_for_us: 0,
        }
    }

    #[test]
    fn a_backend_that_does_not_connect_is_told_with_its_state() {
        let facts = Facts {
            link: LinkFacts::Down {
                because: Some("backend is InitWait".to_string()),
            },
            ..silent()
        };
        let diagnosis = diagnose(&facts);
        assert_eq!(diagnosis.word(), "not_connected");
        assert!(diagnosis.to_string().contains("backend is InitWait"));
        let facts = Facts {
            link: LinkFacts::Down { because: None },
            ..silent()
        };
        assert_eq!(diagnose(&facts).word(), "not_connected");
    }

    #[test]
    fn an_address_that_somebody_else_claims_is_told_before_all_else() {
        let facts = Facts {
            clash: Some(Clash {
                address: Ipv4Addr::new(10, 0, 0, 9).into(),
                own: [2, 0, 0, 0, 0, 1],
                claimant: [2, 0, 0, 0, 0, 7],
            }),
            gateway: Some((GATEWAY, Answered::Yes)),
            received_frames: 5,
            received_for_us: 5,
            ..silent()
        };
        let diagnosis = diagnose(&facts);
        assert_eq!(diagnosis.word(), "address_clash");
        let text = diagnosis.to_string();
        assert!(
            text.contains("10.0.0.9") && text.contains("02:00:00:00:00:07"),
            "{text}"
        );
    }

    #[test]
    fn a_silent_dhcp_server_is_told_from_a_wrong_bridge() {
        let asking = |received_frames| Facts {
            ipv4: Ipv4Facts::Asking,
            received_frames,
            ..silent()
        };
        assert_eq!(diagnose(&asking(3)).word(), "no_dhcp_answer");
        let diagnosis = diagnose(&asking(0));
        assert_eq!(diagnosis.word(), "nobody_answers");
        let text = diagnosis.to_string();
        assert!(
            text.contains("no DHCP server answers") && text.contains("bridge"),
            "{text}"
        );
    }

    #[test]
    fn a_gateway_that_does_not_answer_is_named() {
        let asked = |answered, received_frames, received_for_us| Facts {
            gateway: Some((GATEWAY, answered)),
            received_frames,
            received_for_us,
            ..silent()
        };
        // Also where others are heard: the bridge may be a neighbour's.
        for received in [0, 40] {
            let diagnosis = diagnose(&asked(Answered::No, received, 0));
            assert_eq!(diagnosis.word(), "nobody_answers");
            assert!(diagnosis.to_string().contains("10.0.0.1"), "{diagnosis}");
        }
        assert!(!diagnose(&asked(Answered::Yes, 1, 1)).is_fault());
        // Others may talk to us there, too.
        assert!(diagnose(&asked(Answered::No, 9, 9)).is_fault());
        // Nobody asked it, and others are heard.
        let heard = Facts {
            received_frames: 9,
            ..silent()
        };
        assert!(!diagnose(&heard).is_fault());
    }

    #[test]
    fn without_a_gateway_only_complete_silence_is_suspicious() {
        assert_eq!(diagnose(&silent()).word(), "nobody_answers");
        let heard = Facts {
            received_frames: 1,
            ..silent()
        };
        assert!(!diagnose(&heard).is_fault());
        let idle = Facts {
            sent_frames: 0,
            ..silent()
        };
        assert!(!diagnose(&idle).is_fault());
        let off = Facts {
            ipv4: Ipv4Facts::Off,
            received_frames: 2,
            ..silent()
        };
        assert!(!diagnose(&off).is_fault());
    }

    #[test]
    fn every_diagnosis_says_what_to_do() {
        let faults = [
            Diagnosis::NoInterface,
            Diagnosis::NotConnected { because: None },
            diagnose(&silent()),
            Diagnosis::NoDhcpAnswer { received_frames: 1 },
            Diagnosis::AddressClash(Clash {
                address: GATEWAY.into(),
                own: [2; 6],
                claimant: [4; 6],
            }),
        ];
        for (number, fault) in faults.iter().enumerate() {
            assert!(fault.is_fault());
            assert!(fault.to_string().contains(';'), "{fault}");
            // Each has a word of its own.
            assert!(
                faults[number + 1..]
                    .iter()
                    .all(|other| other.word() != fault.word())
            );
        }
    }
}
