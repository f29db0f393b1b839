//! Several network interfaces at once.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use cargo_rekernel::qemu::Machine;

use super::{BOOT_LIMIT, Context, Test};
use crate::command::free_port;
use crate::http;

pub(super) const TESTS: &[Test] = &[
    ("two interfaces on pc serve side by side", |context| {
        two(context, Machine::Pc)
    }),
    ("two interfaces on q35 serve side by side", |context| {
        two(context, Machine::Q35)
    }),
    ("two interfaces on microvm serve side by side", |context| {
        two(context, Machine::Microvm)
    }),
];

/// Time for one request.
const REQUEST_LIMIT: Duration = Duration::from_secs(30);
const BYTES: usize = 2_000_000;

/// The addresses that the two networks give by DHCP.
const ADDRESSES: [&str; 2] = ["10.0.2.15", "10.0.3.15"];

fn two(context: &Context, machine: Machine) -> Result<()> {
    let second_port = free_port()?;
    let (mut boot, first_port) = context.boot_with_port("http", 80, |guest| {
        guest.machine = machine;
        let network = format!(
            "user,id=second,net=10.0.3.0/24,hostfwd=tcp:127.0.0.1:{second_port}-10.0.3.15:80"
        );
        let device = match machine {
            Machine::Pc | Machine::Q35 => "virtio-net-pci,netdev=second,romfile=",
            Machine::Microvm => "virtio-net-device,netdev=second",
        };
        guest.extra = ["-netdev", &network, "-device", device]
            .map(str::to_owned)
            .to_vec();
    })?;
    boot.wait_until_ready(BOOT_LIMIT)?;
    let outcome = has_both_addresses(first_port).and_then(|()| {
        std::thread::scope(|scope| {
            let clients = [first_port, second_port].map(|port| scope.spawn(move || exchange(port)));
            clients.into_iter().try_for_each(|client| {
                client
                    .join()
                    .unwrap_or_else(|_| Err(anyhow::anyhow!("a client was lost")))
            })
        })
    });
    boot.explain(outcome)
}

/// The guest is ready with its first address; the second comes when DHCP has answered there.
fn has_both_addresses(port: u16) -> Result<()> {
    let until = Instant::now() + BOOT_LIMIT;
    loop {
        let page = http::get(port, "/", REQUEST_LIMIT)?.text();
        if ADDRESSES.iter().all(|address| page.contains(address)) {
            return Ok(());
        }
        ensure!(
            Instant::now() < until,
            "not both of {ADDRESSES:?} are on the page: {page}"
        );
        std::thread::sleep(Duration::from_millis(100));
    }
}

fn exchange(port: u16) -> Result<()> {
    for _ in 0..3 {
        let bytes = http::get(port, &format!("/bytes/{BYTES}"), REQUEST_LIMIT)?;
        ensure!(
            http::hash(&bytes.body) == http::hash_of_bytes(BYTES as u64),
            "port {port}: the download is another one ({} bytes)",
            bytes.body.len()
        );
        let body: Vec<u8> = (0..BYTES).map(|index| (index % 239) as u8).collect();
        let echo = http::post(port, "/echo", &body, REQUEST_LIMIT)?;
        ensure!(echo.body == body, "port {port}: the echo differs");
    }
    Ok(())
}
