//! Addresses and networks in text.

use alloc::borrow::ToOwned;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::Complaint;
use crate::net::{is_host_ipv4, is_host_ipv6};

/// What the host assigned to an interface.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Assigned {
    pub(super) ipv4: Option<(Ipv4Addr, u8)>,
    pub(super) ipv6: Option<(Ipv6Addr, u8)>,
}

/// Reads xl's `ip=` of a vif: addresses separated by spaces or commas, usually without a prefix
/// length. /24 and /64 are then assumed, as the sizes that networks usually have.
pub(super) fn parse_assigned(text: &str) -> (Assigned, Vec<Complaint>) {
    let mut assigned = Assigned::default();
    let mut complaints = Vec::new();
    for word in text.split([' ', ',']).filter(|word| !word.is_empty()) {
        let with_prefix = |prefix| match word.contains('/') {
            true => word.to_owned(),
            false => format!("{word}/{prefix}"),
        };
        let result = if word.contains(':') {
            parse_ipv6_network(&with_prefix(64))
                .map(|network| _ = assigned.ipv6.get_or_insert(network))
        } else {
            parse_ipv4_network(&with_prefix(24))
                .map(|network| _ = assigned.ipv4.get_or_insert(network))
        };
        if let Err(problem) = result {
            complaints.push(Complaint {
                key: "vif ip".to_owned(),
                value: word.to_owned(),
                problem,
            });
        }
    }
    (assigned, complaints)
}

pub(super) fn parse_list(text: &str) -> Result<Vec<IpAddr>, String> {
    text.split(',')
        .map(|word| {
            let address = word
                .parse()
                .map_err(|_| format!("{word:?} is not an IP address"))?;
            let is_host = match address {
                IpAddr::V4(address) => is_host_ipv4(address),
                IpAddr::V6(address) => is_host_ipv6(address),
            };
            match is_host {
                true => Ok(address),
                false => Err(format!("{word} is not the address of one host")),
            }
        })
        .collect()
}

pub(super) fn parse_ipv4_network(text: &str) -> Result<(Ipv4Addr, u8), String> {
    let (address, prefix) = split_prefix(text, "10.0.2.15/24")?;
    Ok((parse_ipv4(address)?, parse_prefix(prefix, 32)?))
}

pub(super) fn parse_ipv6_network(text: &str) -> Result<(Ipv6Addr, u8), String> {
    let (address, prefix) = split_prefix(text, "2001:db8::2/64")?;
    Ok((parse_ipv6(address)?, parse_prefix(prefix, 128)?))
}

pub(super) fn parse_ipv4(text: &str) -> Result<Ipv4Addr, String> {
    let address = text
        .parse()
        .map_err(|_| format!("{text:?} is not an IPv4 address"))?;
    match is_host_ipv4(address) {
        true => Ok(address),
        false => Err(format!("{address} is not the address of one host")),
    }
}

pub(super) fn parse_ipv6(text: &str) -> Result<Ipv6Addr, String> {
    let address = text
        .parse()
        .map_err(|_| format!("{text:?} is not an IPv6 address"))?;
    match is_host_ipv6(address) {
        true => Ok(address),
        false => Err(format!("{address} is not the address of one host")),
    }
}

fn split_prefix<'a>(text: &'a str, example: &str) -> Result<(&'a str, &'a str), String> {
    text.split_once('/')
        .ok_or_else(|| format!("the prefix length is missing, as in {example}"))
}

fn parse_prefix(text: &str, longest: u8) -> Result<u8, String> {
    match text.parse() {
        Ok(length) if length >= 1 && length <= longest => Ok(length),
        _ => Err(format!(
            "the prefix length {text:?} is not within 1 to {longest}"
        )),
    }
}
