//! Ports of this machine that lead into the guest.

use std::io::ErrorKind;
use std::net::{Ipv4Addr, SocketAddrV4, TcpListener, UdpSocket};

use anyhow::{Context, Result, anyhow, bail};

use crate::package::{Protocol, Service};

/// A port of this machine and the guest's service behind it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Forward {
    /// Port on 127.0.0.1.
    pub host_port: u16,
    /// What it reaches in the guest.
    pub service: Service,
}

/// Gives each service a port of this machine: `first` to the first service and all that
/// share its number, the ports after it to the others.
///
/// # Errors
/// Where the numbers run beyond 65535.
pub fn plan(services: &[Service], first: u16) -> Result<Vec<Forward>> {
    let mut numbers: Vec<u16> = Vec::new();
    let mut forwards = Vec::with_capacity(services.len());
    for &service in services {
        let index = numbers
            .iter()
            .position(|&port| port == service.port)
            .unwrap_or_else(|| {
                numbers.push(service.port);
                numbers.len() - 1
            });
        let offset = u16::try_from(index).ok();
        let host_port = offset.and_then(|offset| first.checked_add(offset));
        let host_port = host_port
            .with_context(|| format!("--port {first} leaves no room for the guest's ports"))?;
        forwards.push(Forward { host_port, service });
    }
    Ok(forwards)
}

/// Checks that every port is free, by taking it for a moment: a virtual machine that
/// fails for this after the build would be a late and unclear answer.
///
/// # Errors
/// Names the port that is in use and what to do.
pub fn check(forwards: &[Forward]) -> Result<()> {
    for forward in forwards {
        let address = SocketAddrV4::new(Ipv4Addr::LOCALHOST, forward.host_port);
        let taken = match forward.service.protocol {
            Protocol::Tcp => TcpListener::bind(address).map(drop),
            Protocol::Udp => UdpSocket::bind(address).map(drop),
        };
        let (protocol, port) = (forward.service.protocol.name(), forward.host_port);
        match taken {
            Ok(()) => {}
            Err(error) if error.kind() == ErrorKind::AddrInUse => bail!(
                "{protocol} port {port} of this machine is in use: end what uses it (`ss -lntup 'sport = :{port}'` names it) \
                 or choose another with --port {}",
                port.checked_add(1).unwrap_or(8080)
            ),
            Err(error) if error.kind() == ErrorKind::PermissionDenied => {
                bail!(
                    "{protocol} port {port} may only be used by root: choose one above 1023 with --port 8080"
                )
            }
            Err(error) => {
                return Err(anyhow!(error).context(format!(
                    "{protocol} port {port} of this machine cannot be used"
                )));
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn service(protocol: Protocol, port: u16) -> Service {
        Service { protocol, port }
    }

    #[test]
    fn services_of_one_number_share_a_port() {
        let services = [
            service(Protocol::Tcp, 7),
            service(Protocol::Udp, 7),
            service(Protocol::Tcp, 9),
        ];
        let ports: Vec<_> = plan(&services, 8080)
            .unwrap()
            .iter()
            .map(|forward| forward.host_port)
            .collect();
        assert_eq!(ports, [8080, 8080, 8081]);
        assert!(plan(&services, u16::MAX).is_err());
    }

    #[test]
    fn a_port_in_use_is_named_with_a_way_out() {
        let holder = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let host_port = holder.local_addr().unwrap().port();
        let forward = Forward {
            host_port,
            service: service(Protocol::Tcp, 80),
        };
        let error = check(&[forward]).unwrap_err().to_string();
        assert!(
            error.contains(&format!("tcp port {host_port}")) && error.contains("--port"),
            "{error}"
        );
        drop(holder);
        check(&[forward]).unwrap();
    }
}
