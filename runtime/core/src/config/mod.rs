//! Configuration: the kernel command line, and where addresses come from.
//!
//! The command line is a list of `key=value` words separated by white space; double quotes
//! keep white space inside a word (`greeting="good morning"`). A key nobody knows or a value
//! that makes no sense is a [`Complaint`]; everything else on the line is honoured.
//!
//! | key | value | meaning |
//! |---|---|---|
//! | `ip` | `10.0.2.15/24`, `dhcp`, `off` | IPv4 address of the first interface |
//! | `gw` | `10.0.2.2` | its IPv4 gateway |
//! | `ip6` | `2001:db8::2/64`, `auto`, `off` | its IPv6 address; `auto` asks the routers (SLAAC) |
//! | `gw6` | `fe80::1` | its IPv6 gateway |
//! | `net1.ip`, `net1.gw`, `net1.ip6`, `net1.gw6` | | the same for the second interface (on Xen `device/vif/1`); `net0` is the first |
//! | `dns` | `10.0.2.3,10.0.2.4` | name servers, in the order to ask |
//! | `log` | `debug` or `info,net=debug` | level, and levels of single log targets |
//! | `capture` | `5555` | TCP port on which whoever connects gets a recording of all frames, in the format pcapng |
//! | `watchdog` | `30` | the hypervisor ends the guest when its run loop stands still for so many seconds |
//! | `virtio_mmio.device` | `512@0xfeb00e00:12` | added by QEMU's microvm |
//!
//! and the keys that the application declares. A key given twice counts the last time, except
//! `dns` and `virtio_mmio.device`, which add up.

mod address;
mod log_levels;
mod virtio_mmio;
mod words;

pub use log_levels::LogLevels;
pub use virtio_mmio::VirtioMmioDevice;

use alloc::borrow::ToOwned;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::net::{AddressConfig, AddressSource, Ipv4Config, Ipv6Config};

/// What the command line says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Settings {
    /// Name servers, in the order to ask.
    pub dns: Vec<IpAddr>,
    /// What to log.
    pub log: LogLevels,
    /// Seconds after which a guest that stands still is ended; `None` for never.
    pub watchdog: Option<u32>,
    /// TCP port for recordings of frames; `None` for none.
    pub capture: Option<u16>,
    /// Devices that QEMU's microvm announces.
    pub virtio_mmio_devices: Vec<VirtioMmioDevice>,
    // By key, each once, ascending: a handful of entries, for which a tree would be more code than
    // it saves steps.
    interfaces: Vec<(usize, InterfaceSettings)>,
    application: Vec<(String, String)>,
}

impl Settings {
    /// Reads a command line. `application_keys` are the keys the application understands.
    pub fn parse(command_line: &[u8], application_keys: &[&str]) -> (Settings, Vec<Complaint>) {
        let mut settings = Settings::default();
        let mut complaints = Vec::new();
        for word in words::split(command_line) {
            let (key, value) = match word {
                Ok(word) => word,
                Err(complaint) => {
                    complaints.push(complaint);
                    continue;
                }
            };
            if let Err(problem) = settings.apply(&key, &value, application_keys) {
                complaints.push(Complaint {
                    key,
                    value,
                    problem,
                });
            }
        }
        (settings, complaints)
    }

    /// The value of a key of the application.
    pub fn value(&self, key: &str) -> Option<&str> {
        let found = self
            .application
            .binary_search_by(|(known, _)| known.as_str().cmp(key));
        Some(self.application[found.ok()?].1.as_str())
    }

    /// How interface number `index` (from 0) gets its addresses: by the command line, else by
    /// what the host assigned (`assigned`: xl's `vif = ['ip=...']`), else by DHCP and router
    /// advertisements.
    pub fn address_config(
        &self,
        index: usize,
        assigned: Option<&str>,
    ) -> (AddressConfig, Vec<Complaint>) {
        let none = InterfaceSettings::default();
        let found = self.interfaces.iter().find(|(number, _)| *number == index);
        let own = found.map_or(&none, |(_, own)| own);
        let (host, complaints) = match assigned {
            Some(text) => address::parse_assigned(text),
            None => Default::default(),
        };
        let ipv4 = match (own.ipv4, host.ipv4) {
            (Some(Ipv4Setting::Off), _) => Ipv4Config::Off,
            (Some(Ipv4Setting::Dhcp), _) | (None, None) => Ipv4Config::Dhcp,
            (Some(Ipv4Setting::Address(address, prefix_length)), _) => Ipv4Config::Static {
                address,
                prefix_length,
                gateway: own.gateway_ipv4,
                source: AddressSource::CommandLine,
            },
            (None, Some((address, prefix_length))) => Ipv4Config::Static {
                address,
                prefix_length,
                gateway: own.gateway_ipv4,
                source: AddressSource::Host,
            },
        };
        let ipv6 = match (own.ipv6, host.ipv6) {
            (Some(Ipv6Setting::Off), _) => Ipv6Config::Off,
            (Some(Ipv6Setting::Auto), _) | (None, None) => Ipv6Config::Auto,
            (Some(Ipv6Setting::Address(address, prefix_length)), _) => Ipv6Config::Static {
                address,
                prefix_length,
                gateway: own.gateway_ipv6,
                source: AddressSource::CommandLine,
            },
            (None, Some((address, prefix_length))) => Ipv6Config::Static {
                address,
                prefix_length,
                gateway: own.gateway_ipv6,
                source: AddressSource::Host,
            },
        };
        (AddressConfig { ipv4, ipv6 }, complaints)
    }

    /// Numbers of the interfaces that the command line configures: to tell when one is not there.
    pub fn configured_interfaces(&self) -> impl Iterator<Item = usize> {
        self.interfaces.iter().map(|(number, _)| *number)
    }

    fn apply(&mut self, key: &str, value: &str, application_keys: &[&str]) -> Result<(), String> {
        if application_keys.contains(&key) {
            *entry(&mut self.application, key.to_owned()) = value.to_owned();
            return Ok(());
        }
        match key {
            "dns" => self.dns.extend(address::parse_list(value)?),
            "log" => self.log = LogLevels::parse(value)?,
            "capture" => self.capture = Some(parse_port(value)?),
            "watchdog" => self.watchdog = Some(parse_watchdog(value)?),
            "virtio_mmio.device" => self.virtio_mmio_devices.push(value.parse()?),
            _ => {
                let (index, key) = interface_key(key).ok_or_else(|| unknown(application_keys))?;
                let setting = InterfaceSetting::parse(key, value)
                    .ok_or_else(|| unknown(application_keys))??;
                setting.apply(entry(&mut self.interfaces, index));
            }
        }
        Ok(())
    }
}

/// Something on the command line that was not understood, and is ignored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Complaint {
    /// The key as given.
    pub key: String,
    /// The value as given.
    pub value: String,
    /// What is wrong with it.
    pub problem: String,
}

impl fmt::Display for Complaint {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            key,
            value,
            problem,
        } = self;
        write!(formatter, "{key}={value}: {problem}")
    }
}

impl core::error::Error for Complaint {}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct InterfaceSettings {
    ipv4: Option<Ipv4Setting>,
    gateway_ipv4: Option<Ipv4Addr>,
    ipv6: Option<Ipv6Setting>,
    gateway_ipv6: Option<Ipv6Addr>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ipv4Setting {
    Off,
    Dhcp,
    Address(Ipv4Addr, u8),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ipv6Setting {
    Off,
    Auto,
    Address(Ipv6Addr, u8),
}

/// One key of an interface with its value.
enum InterfaceSetting {
    Ipv4(Ipv4Setting),
    GatewayIpv4(Ipv4Addr),
    Ipv6(Ipv6Setting),
    GatewayIpv6(Ipv6Addr),
}

impl InterfaceSetting {
    /// `None`: no such key.
    fn parse(key: &str, value: &str) -> Option<Result<Self, String>> {
        Some(match key {
            "ip" => match value {
                "off" => Ok(Self::Ipv4(Ipv4Setting::Off)),
                "dhcp" => Ok(Self::Ipv4(Ipv4Setting::Dhcp)),
                _ => address::parse_ipv4_network(value)
                    .map(|(address, prefix)| Self::Ipv4(Ipv4Setting::Address(address, prefix)))
                    .map_err(|problem| format!("{problem}; or say dhcp or off")),
            },
            "ip6" => match value {
                "off" => Ok(Self::Ipv6(Ipv6Setting::Off)),
                "auto" => Ok(Self::Ipv6(Ipv6Setting::Auto)),
                _ => address::parse_ipv6_network(value)
                    .map(|(address, prefix)| Self::Ipv6(Ipv6Setting::Address(address, prefix)))
                    .map_err(|problem| format!("{problem}; or say auto or off")),
            },
            "gw" => address::parse_ipv4(value).map(Self::GatewayIpv4),
            "gw6" => address::parse_ipv6(value).map(Self::GatewayIpv6),
            _ => return None,
        })
    }

    fn apply(self, settings: &mut InterfaceSettings) {
        match self {
            Self::Ipv4(setting) => settings.ipv4 = Some(setting),
            Self::GatewayIpv4(gateway) => settings.gateway_ipv4 = Some(gateway),
            Self::Ipv6(setting) => settings.ipv6 = Some(setting),
            Self::GatewayIpv6(gateway) => settings.gateway_ipv6 = Some(gateway),
        }
    }
}

/// The value of a key in a sorted list, made where there is none.
fn entry<K: Ord, V: Default>(list: &mut Vec<(K, V)>, key: K) -> &mut V {
    let place = match list.binary_search_by(|(known, _)| known.cmp(&key)) {
        Ok(place) => place,
        Err(place) => {
            list.insert(place, (key, V::default()));
            place
        }
    };
    &mut list[place].1
}

fn parse_port(value: &str) -> Result<u16, String> {
    match value.parse() {
        Ok(port @ 1..) => Ok(port),
        _ => Err(format!("not a port from 1 to {}", u16::MAX)),
    }
}

/// A number of seconds, a day at most: more is a mistake.
fn parse_watchdog(value: &str) -> Result<u32, String> {
    const LONGEST: u32 = 24 * 60 * 60;
    match value.parse() {
        Ok(seconds @ 1..=LONGEST) => Ok(seconds),
        _ => Err(format!("not a number of seconds from 1 to {LONGEST}")),
    }
}

/// Splits `net1.ip` into 1 and `ip`; a plain `ip` belongs to interface 0.
fn interface_key(key: &str) -> Option<(usize, &str)> {
    match key.strip_prefix("net") {
        Some(rest) => {
            let (index, key) = rest.split_once('.')?;
            Some((index.parse().ok()?, key))
        }
        None => Some((0, key)),
    }
}

/// Keys of every guest that people give; those of the first interface are known with `net1.` and so on in
/// front, too.
const KEYS: [&str; 8] = [
    "ip", "gw", "ip6", "gw6", "dns", "log", "watchdog", "capture",
];

fn unknown(application_keys: &[&str]) -> String {
    let mut problem = "unknown key; known are net1.ip (and so on)".to_string();
    for key in KEYS.iter().chain(application_keys) {
        problem.push_str(", ");
        problem.push_str(key);
    }
    problem
}

#[cfg(test)]
mod tests;
