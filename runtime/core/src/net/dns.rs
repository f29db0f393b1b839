//! Looking up host names (RFC 1035, RFC 3596).
//!
//! A stub resolver: it asks the configured servers one after the other and keeps nothing. Each
//! lookup uses a socket of its own, so that port and identifier are random and unpredictable
//! every time (RFC 5452).

use alloc::borrow::ToOwned;
use alloc::vec;
use alloc::vec::Vec;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use smoltcp::wire::{
    DnsFlags, DnsOpcode, DnsPacket, DnsQueryType, DnsQuestion, DnsRcode, DnsRecord, DnsRecordData,
    DnsRepr,
};

use super::ResolveError;
use super::stack::Stack;
use super::udp::{UdpOptions, UdpSocket};
use crate::random;
use crate::time::{Duration, timeout};

const PORT: u16 = 53;

/// How often to ask each server, and how long to wait for it each time.
const ROUNDS: usize = 2;
const ANSWER_LIMIT: Duration = Duration::from_secs(2);

/// Longest datagram that is understood, in bytes.
const LONGEST_ANSWER: usize = 4096;

/// Looks up the addresses of a host in the running runtime's stack, IPv4 addresses first. A
/// textual address is its own answer.
///
/// # Errors
/// See [`ResolveError`].
///
/// # Panics
/// Outside of a running runtime.
pub async fn resolve(name: &str) -> Result<Vec<IpAddr>, ResolveError> {
    resolve_in(&Stack::current(), name).await
}

pub(super) async fn resolve_in(stack: &Stack, name: &str) -> Result<Vec<IpAddr>, ResolveError> {
    if let Ok(address) = name.parse() {
        return Ok(vec![address]);
    }
    let encoded = encode_name(name).ok_or_else(|| ResolveError::InvalidName(name.to_owned()))?;
    let servers = stack.dns_servers();
    if servers.is_empty() {
        return Err(ResolveError::NoServers);
    }
    let kinds = kinds(stack);
    let mut error = ResolveError::TimedOut(name.to_owned());
    for _ in 0..ROUNDS {
        for server in &servers {
            match ask(stack, *server, &encoded, kinds).await {
                Ok(Outcome::Addresses(addresses)) => return Ok(addresses),
                Ok(Outcome::NotFound) => return Err(ResolveError::NotFound(name.to_owned())),
                Ok(Outcome::Failed) => error = ResolveError::ServerFailed(name.to_owned()),
                Ok(Outcome::Silence) => {}
                Err(other) => return Err(other),
            }
        }
    }
    Err(error)
}

/// The kinds of addresses that are of use: IPv6 only with a way into the IPv6 internet.
fn kinds(stack: &Stack) -> &'static [DnsQueryType] {
    let somewhere = SocketAddr::from((Ipv6Addr::new(0x2000, 0, 0, 0, 0, 0, 0, 1), PORT));
    match stack.shared().route(somewhere) {
        Some(_) => &[DnsQueryType::A, DnsQueryType::Aaaa],
        None => &[DnsQueryType::A],
    }
}

enum Outcome {
    Addresses(Vec<IpAddr>),
    NotFound,
    Failed,
    Silence,
}

/// Asks one server for all kinds of addresses at once.
async fn ask(
    stack: &Stack,
    server: IpAddr,
    name: &[u8],
    kinds: &[DnsQueryType],
) -> Result<Outcome, ResolveError> {
    let any = match server {
        IpAddr::V4(_) => SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)),
        IpAddr::V6(_) => SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0)),
    };
    let socket = stack
        .bind_udp(any, UdpOptions::default())
        .map_err(ResolveError::Socket)?;
    let server = SocketAddr::new(server, PORT);
    let mut questions = Vec::new();
    for kind in kinds {
        let question = Question {
            identifier: random::network_u64() as u16,
            kind: *kind,
        };
        if socket
            .send_to(&question.encode(name), server)
            .await
            .is_err()
        {
            return Ok(Outcome::Silence);
        }
        questions.push(question);
    }
    let mut addresses = Vec::new();
    let mut failed = false;
    let heard = timeout(
        ANSWER_LIMIT,
        listen(
            &socket,
            server,
            name,
            &mut questions,
            &mut addresses,
            &mut failed,
        ),
    )
    .await;
    let (mut addresses, ipv6): (Vec<_>, Vec<_>) = addresses.into_iter().partition(IpAddr::is_ipv4);
    addresses.extend(ipv6);
    Ok(match heard {
        _ if !addresses.is_empty() => Outcome::Addresses(addresses),
        Err(_) => Outcome::Silence,
        Ok(()) if failed => Outcome::Failed,
        Ok(()) => Outcome::NotFound,
    })
}

/// Collects answers until all questions are answered.
async fn listen(
    socket: &UdpSocket,
    server: SocketAddr,
    name: &[u8],
    questions: &mut Vec<Question>,
    addresses: &mut Vec<IpAddr>,
    failed: &mut bool,
) {
    let mut datagram = vec![0; LONGEST_ANSWER];
    while !questions.is_empty() {
        let (length, sender) = socket.recv_from(&mut datagram).await;
        if sender.ip() != server.ip() || sender.port() != server.port() {
            continue;
        }
        let answered = questions.iter().position(|question| {
            match question.parse_answer(name, &datagram[..length]) {
                Some(Ok(found)) => {
                    addresses.extend(found);
                    true
                }
                Some(Err(ServerFailed)) => {
                    *failed = true;
                    true
                }
                None => false,
            }
        });
        if let Some(index) = answered {
            questions.swap_remove(index);
        }
    }
}

/// One question, as sent.
struct Question {
    identifier: u16,
    kind: DnsQueryType,
}

/// The server answered with an error other than "no such name".
#[derive(Debug, PartialEq, Eq)]
struct ServerFailed;

impl Question {
    fn encode(&self, name: &[u8]) -> Vec<u8> {
        let query = DnsRepr {
            transaction_id: self.identifier,
            opcode: DnsOpcode::Query,
            flags: DnsFlags::RECURSION_DESIRED,
            question: DnsQuestion {
                name,
                type_: self.kind,
            },
        };
        let mut datagram = vec![0; query.buffer_len()];
        query.emit(&mut DnsPacket::new_unchecked(&mut datagram[..]));
        datagram
    }

    /// The addresses in an answer to this question; `None` when it answers something else.
    fn parse_answer(
        &self,
        name: &[u8],
        datagram: &[u8],
    ) -> Option<Result<Vec<IpAddr>, ServerFailed>> {
        let packet = DnsPacket::new_checked(datagram).ok()?;
        let is_answer = packet.transaction_id() == self.identifier
            && packet.opcode() == DnsOpcode::Query
            && packet.flags().contains(DnsFlags::RESPONSE)
            && packet.question_count() == 1;
        if !is_answer {
            return None;
        }
        let (mut rest, question) = DnsQuestion::parse(packet.payload()).ok()?;
        if question.type_ != self.kind || !is_same_name(&packet, question.name, name) {
            return None;
        }
        match packet.rcode() {
            DnsRcode::NoError => {}
            DnsRcode::NXDomain => return Some(Ok(Vec::new())),
            _ => return Some(Err(ServerFailed)),
        }
        let mut addresses = Vec::new();
        for _ in 0..packet.answer_record_count() {
            // A truncated answer has what it has.
            let Ok((after, record)) = DnsRecord::parse(rest) else {
                break;
            };
            rest = after;
            match (record.data, self.kind) {
                (DnsRecordData::A(address), DnsQueryType::A) => addresses.push(address.into()),
                (DnsRecordData::Aaaa(address), DnsQueryType::Aaaa) => {
                    addresses.push(address.into());
                }
                // A recursive server gives the addresses of the name's alias along with it.
                _ => {}
            }
        }
        Some(Ok(addresses))
    }
}

/// Whether an answer repeats the name that was asked for, in whatever case.
fn is_same_name(packet: &DnsPacket<&[u8]>, answered: &[u8], asked: &[u8]) -> bool {
    let mut asked = labels(asked);
    let mut answered = packet.parse_name(answered);
    loop {
        match (answered.next(), asked.next()) {
            (None, None) => return true,
            (Some(Ok(a)), Some(b)) if a.eq_ignore_ascii_case(b) => {}
            _ => return false,
        }
    }
}

/// The labels of a name in the form of the wire.
fn labels(mut name: &[u8]) -> impl Iterator<Item = &[u8]> {
    core::iter::from_fn(move || {
        let (length, rest) = name.split_first()?;
        let label = rest.get(..usize::from(*length))?;
        name = &rest[usize::from(*length)..];
        (!label.is_empty()).then_some(label)
    })
}

/// A host name in the form of the wire: labels after their lengths (RFC 1035, section 3.1).
fn encode_name(name: &str) -> Option<Vec<u8>> {
    let name = name.strip_suffix('.').unwrap_or(name);
    let mut encoded = Vec::new();
    for label in name.split('.') {
        let is_valid = (1..=63).contains(&label.len())
            && label
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_');
        if !is_valid {
            return None;
        }
        encoded.push(u8::try_from(label.len()).ok()?);
        encoded.extend_from_slice(label.as_bytes());
    }
    encoded.push(0);
    (encoded.len() <= 255).then_some(encoded)
}
