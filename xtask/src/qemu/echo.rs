//! The `echo` example: TCP and UDP.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpStream, UdpSocket};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use cargo_rekernel::package::{Protocol, Service};
use cargo_rekernel::ports::Forward;
use cargo_rekernel::qemu::{Configuration, Link};

use super::{BOOT_LIMIT, Context, Test};
use crate::command::free_port;

pub(super) const TESTS: &[Test] = &[("echo: TCP and UDP", tcp_and_udp)];

/// Time for one answer.
const ANSWER_LIMIT: Duration = Duration::from_secs(10);

/// The guest's port, for both protocols.
const PORT: u16 = 7;

fn tcp_and_udp(context: &Context) -> Result<()> {
    let host_port = free_port()?;
    let forward = |protocol| Forward {
        host_port,
        service: Service {
            protocol,
            port: PORT,
        },
    };
    let link = Link::User(vec![forward(Protocol::Tcp), forward(Protocol::Udp)]);
    let mut boot = context.boot(&Configuration {
        link,
        ..context.configuration("echo")?
    })?;
    boot.wait_until_ready(BOOT_LIMIT)?;
    let outcome = tcp(host_port).and_then(|()| udp(host_port));
    boot.explain(outcome)
}

fn tcp(port: u16) -> Result<()> {
    let mut stream =
        TcpStream::connect((Ipv4Addr::LOCALHOST, port)).context("tcp: no connection")?;
    stream.set_read_timeout(Some(ANSWER_LIMIT))?;
    let mut writer = stream.try_clone()?;
    let sent: Vec<u8> = (0..200_000u32).flat_map(u32::to_le_bytes).collect();
    let to_send = sent.clone();
    let sending = std::thread::spawn(move || writer.write_all(&to_send));
    let mut received = vec![0; sent.len()];
    stream
        .read_exact(&mut received)
        .context("tcp: the echo ended early")?;
    ensure!(
        sending.join().is_ok_and(|sent| sent.is_ok()),
        "tcp: sending failed"
    );
    ensure!(received == sent, "tcp: the echo differs from what was sent");
    Ok(())
}

fn udp(port: u16) -> Result<()> {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
    socket.connect((Ipv4Addr::LOCALHOST, port))?;
    socket.set_read_timeout(Some(Duration::from_secs(2)))?;
    for length in [1usize, 100, 1400] {
        let sent: Vec<u8> = (0..length).map(|index| index as u8).collect();
        let mut received = [0; 2000];
        // UDP may lose a datagram: ask again, as every user of it must.
        let answered = (0..5).find_map(|_| {
            socket.send(&sent).ok()?;
            socket.recv(&mut received).ok()
        });
        let count =
            answered.with_context(|| format!("udp: no echo of {length} bytes in five attempts"))?;
        ensure!(
            received[..count] == sent,
            "udp: the echo of {length} bytes differs"
        );
    }
    Ok(())
}
