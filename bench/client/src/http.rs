//! As much HTTP as a load generator needs.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use crate::Result;

/// How long an answer may take before the guest counts as lost.
const PATIENCE: Duration = Duration::from_secs(30);

/// A connection on which one request follows another.
pub(crate) struct Connection {
    stream: BufReader<TcpStream>,
    request: Vec<u8>,
    body: Vec<u8>,
}

impl Connection {
    /// Connects; every request will be for `path`.
    pub(crate) fn open(server: SocketAddr, path: &str) -> Result<Self> {
        Self::with_header(server, path, "")
    }

    /// As [`open`](Self::open), for one request after which the server ends the connection.
    pub(crate) fn open_for_one(server: SocketAddr, path: &str) -> Result<Self> {
        Self::with_header(server, path, "Connection: close\r\n")
    }

    fn with_header(server: SocketAddr, path: &str, header: &str) -> Result<Self> {
        let stream = TcpStream::connect_timeout(&server, PATIENCE)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_nodelay(true)?;
        Ok(Self {
            stream: BufReader::with_capacity(16 << 10, stream),
            request: request(path, header),
            body: Vec::new(),
        })
    }

    /// One request and its whole answer; returns the body.
    pub(crate) fn get(&mut self) -> Result<&[u8]> {
        self.stream.get_mut().write_all(&self.request)?;
        let length = self.read_head()?;
        self.body.resize(length, 0);
        self.stream.read_exact(&mut self.body)?;
        Ok(&self.body)
    }

    /// Waits for the server to end the connection.
    pub(crate) fn finish(mut self) -> Result<()> {
        let more = self.stream.read(&mut [0; 16])?;
        if more == 0 {
            Ok(())
        } else {
            Err("the server goes on after its answer".into())
        }
    }

    fn read_head(&mut self) -> Result<usize> {
        let mut length = None;
        let mut line = String::new();
        self.stream.read_line(&mut line)?;
        if line.split(' ').nth(1) != Some("200") {
            return Err(format!("the server answered `{}`", line.trim()).into());
        }
        loop {
            line.clear();
            self.stream.read_line(&mut line)?;
            let Some((name, value)) = line.split_once(':') else {
                break;
            };
            if name.eq_ignore_ascii_case("content-length") {
                length = Some(value.trim().parse()?);
            }
        }
        length.ok_or_else(|| "the answer has no length".into())
    }
}

/// The bytes of a request.
pub(crate) fn request(path: &str, header: &str) -> Vec<u8> {
    format!("GET {path} HTTP/1.1\r\nHost: guest\r\n{header}\r\n").into_bytes()
}
