//! A guest that answers each HTTP request with its uptime.
//!
//! ```text
//! $ cargo rekernel run          boots it under QEMU, with port 8080 of this machine leading here
//! $ curl http://127.0.0.1:8080/
//! up for 1.234 s on QEMU q35
//! ```
#![no_std]
#![no_main]
#![forbid(unsafe_code)]

extern crate alloc;

use alloc::format;
use alloc::string::String;
use core::net::Ipv4Addr;
use core::time::Duration;

use embedded_io_async::{Read, Write};
use rekernel::net::{BindError, TcpError, TcpListener, TcpStream, first_address};

const PORT: u16 = 80;

#[rekernel::main]
async fn main() -> Result<(), BindError> {
    let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, PORT)).await?;
    rekernel::spawn(announce());
    loop {
        if let Ok((stream, peer)) = listener.accept().await {
            let answered = rekernel::try_spawn(async move {
                if let Err(error) = answer(stream).await {
                    log::info!("{peer}: {error}");
                }
            });
            if let Err(error) = answered {
                log::info!("{peer}: {error}");
            }
        }
    }
}

/// Tells `cargo rekernel run` that the guest serves, and where.
async fn announce() {
    match first_address().await {
        Some(address) => rekernel::ready(format_args!("http://{address}/")),
        None => log::warn!("no network device: nobody can reach this server"),
    }
}

/// Answers one request, whatever it asks for, and ends the connection.
async fn answer(mut stream: TcpStream) -> Result<(), TcpError> {
    let mut request = [0; 1024];
    let mut length = 0;
    while !request[..length].windows(4).any(|end| end == b"\r\n\r\n") {
        match stream.read(&mut request[length..]).await? {
            0 => return Ok(()),
            count => length += count,
        }
    }
    let response = response(rekernel::uptime(), rekernel::platform().name);
    stream.write_all(response.as_bytes()).await
}

fn response(uptime: Duration, platform: &str) -> String {
    let text = format!("up for {:.3} s on {platform}\n", uptime.as_secs_f64());
    format!(
        "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{text}",
        text.len()
    )
}

/// `cargo rekernel test` runs these inside a guest.
#[cfg(test)]
mod tests {
    use super::*;

    #[rekernel::test]
    async fn the_response_says_how_long_its_text_is() {
        let response = response(Duration::from_millis(1500), "Xen");
        let (head, text) = response.split_once("\r\n\r\n").unwrap();
        assert_eq!(text, "up for 1.500 s on Xen\n");
        assert!(head.contains("Content-Length: 22\r\n"), "{head}");
    }

    #[rekernel::test]
    async fn a_client_finds_an_address() {
        assert!(
            first_address().await.is_some(),
            "there is no network device"
        );
    }
}
