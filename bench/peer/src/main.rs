//! The services that `cargo xtask bench` measures beside HTTP, as a Linux program: what
//! `bench/guest` does on the same ports.
//!
//! A thread for each connection, blocking calls and large blocks: the least work Linux can be
//! asked for.
#![forbid(unsafe_code)]

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream, UdpSocket};
use std::{io, process, thread};

const SOURCE: u16 = 5001;
const SINK: u16 = 5002;
const ECHO: u16 = 5003;

/// What one read or write of the bulk services moves at most.
const BLOCK: usize = 64 << 10;

fn main() {
    let outcome = start();
    if let Err(error) = outcome {
        eprintln!("bench-peer: {error}");
        process::exit(1);
    }
}

fn start() -> io::Result<()> {
    let source = TcpListener::bind((Ipv4Addr::UNSPECIFIED, SOURCE))?;
    let sink = TcpListener::bind((Ipv4Addr::UNSPECIFIED, SINK))?;
    let echo = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, ECHO))?;
    thread::spawn(move || accept(&source, send));
    thread::spawn(move || send_back(&echo));
    accept(&sink, receive);
    Ok(())
}

fn accept(listener: &TcpListener, serve: fn(TcpStream)) {
    for stream in listener.incoming().flatten() {
        thread::spawn(move || serve(stream));
    }
}

fn send(mut stream: TcpStream) {
    let block = vec![0; BLOCK];
    while stream.write_all(&block).is_ok() {}
}

fn receive(mut stream: TcpStream) {
    let mut block = vec![0; BLOCK];
    while let Ok(1..) = stream.read(&mut block) {}
}

fn send_back(socket: &UdpSocket) {
    let mut datagram = [0; 2048];
    loop {
        // Errors are about a single datagram: the peer's port is gone, the queue is full.
        if let Ok((count, peer)) = socket.recv_from(&mut datagram) {
            let _ = socket.send_to(&datagram[..count], peer);
        }
    }
}
