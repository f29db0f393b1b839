//! As much of an HTTP client as the tests need, over plain sockets.

use std::io::{BufRead, BufReader, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

/// An answer.
#[derive(Debug)]
pub(crate) struct Response {
    pub(crate) status: u16,
    pub(crate) body: Vec<u8>,
}

impl Response {
    /// The body as text, with anything that is not UTF-8 replaced.
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

/// `GET path` from a guest behind `port` of this machine.
pub(crate) fn get(port: u16, path: &str, limit: Duration) -> Result<Response> {
    get_from((Ipv4Addr::LOCALHOST, port).into(), path, limit)
}

/// `GET path` from a guest at an address of its own.
pub(crate) fn get_from(guest: SocketAddr, path: &str, limit: Duration) -> Result<Response> {
    exchange(guest, "GET", path, &[], limit)
}

/// `POST path` with a body.
pub(crate) fn post(port: u16, path: &str, body: &[u8], limit: Duration) -> Result<Response> {
    post_to((Ipv4Addr::LOCALHOST, port).into(), path, body, limit)
}

/// `POST path` with a body, to a guest at an address of its own.
pub(crate) fn post_to(
    guest: SocketAddr,
    path: &str,
    body: &[u8],
    limit: Duration,
) -> Result<Response> {
    exchange(guest, "POST", path, body, limit)
}

fn exchange(
    address: SocketAddr,
    method: &str,
    path: &str,
    body: &[u8],
    limit: Duration,
) -> Result<Response> {
    let what = format!("{method} {path} at {address}");
    let mut stream = TcpStream::connect_timeout(&address, limit)
        .with_context(|| format!("{what}: no connection"))?;
    stream.set_read_timeout(Some(limit))?;
    stream.set_write_timeout(Some(limit))?;
    let length = if method == "POST" {
        format!("Content-Length: {}\r\n", body.len())
    } else {
        String::new()
    };
    let head =
        format!("{method} {path} HTTP/1.1\r\nHost: guest\r\nConnection: close\r\n{length}\r\n");
    // The body goes out beside the reading: a guest that echoes while it reads would
    // otherwise wait for us while we wait for it.
    let mut sender = stream.try_clone()?;
    let body = body.to_vec();
    let sending = std::thread::spawn(move || {
        sender
            .write_all(head.as_bytes())
            .and_then(|()| sender.write_all(&body))
    });
    let response = read_response(&mut BufReader::new(&mut stream)).with_context(|| what.clone())?;
    match sending.join() {
        Ok(sent) => sent.with_context(|| format!("{what}: the request could not be sent"))?,
        Err(_) => bail!("{what}: the sender was lost"),
    }
    Ok(response)
}

/// One connection, for several requests.
pub(crate) struct Connection {
    stream: BufReader<TcpStream>,
}

impl Connection {
    /// Connects to a guest behind `port` of this machine.
    pub(crate) fn open(port: u16, limit: Duration) -> Result<Self> {
        let address = (Ipv4Addr::LOCALHOST, port).into();
        let stream = TcpStream::connect_timeout(&address, limit).context("no connection")?;
        stream.set_read_timeout(Some(limit))?;
        stream.set_nodelay(true)?;
        Ok(Self {
            stream: BufReader::new(stream),
        })
    }

    /// `GET path`, which must be answered with 200; gives the body.
    pub(crate) fn get(&mut self, path: &str) -> Result<Vec<u8>> {
        let head = format!("GET {path} HTTP/1.1\r\nHost: guest\r\n\r\n");
        self.stream.get_mut().write_all(head.as_bytes())?;
        let response = read_response(&mut self.stream).with_context(|| format!("GET {path}"))?;
        ensure!(
            response.status == 200,
            "GET {path} was answered with {}",
            response.status
        );
        Ok(response.body)
    }
}

/// SHA-256, in hexadecimal, of what `GET /bytes/N` of the `http` example answers.
pub(crate) fn hash_of_bytes(length: u64) -> String {
    use sha2::{Digest, Sha256};
    let mut hasher = Sha256::new();
    // The example sends each byte's position modulo 251.
    let block: Vec<u8> = (0..251).collect();
    for start in (0..length).step_by(block.len()) {
        let left = usize::try_from(length - start).unwrap_or(usize::MAX);
        hasher.update(&block[..left.min(block.len())]);
    }
    lab::hexadecimal(&hasher.finalize())
}

/// SHA-256, in hexadecimal.
pub(crate) fn hash(bytes: &[u8]) -> String {
    use sha2::{Digest, Sha256};
    lab::hexadecimal(&Sha256::digest(bytes))
}

/// Reads one response whose end is known by its length, its chunks or the end of the stream.
fn read_response(reader: &mut impl BufRead) -> Result<Response> {
    let status_line = line(reader)?;
    let status = status_line
        .split(' ')
        .nth(1)
        .and_then(|code| code.parse().ok());
    let status = status.with_context(|| format!("`{status_line}` is no status line"))?;
    let (mut length, mut chunked) = (None, false);
    loop {
        let header = line(reader)?.to_ascii_lowercase();
        match header.split_once(':') {
            None => break,
            Some(("content-length", value)) => {
                length = Some(value.trim().parse::<usize>().context("content-length")?)
            }
            Some(("transfer-encoding", value)) => chunked = value.trim() == "chunked",
            Some(_) => {}
        }
    }
    let mut body = Vec::new();
    if chunked {
        read_chunks(reader, &mut body)?;
    } else if let Some(length) = length {
        body.resize(length, 0);
        reader
            .read_exact(&mut body)
            .context("the body ended early")?;
    } else {
        reader
            .read_to_end(&mut body)
            .context("the body cannot be read")?;
    }
    Ok(Response { status, body })
}

fn read_chunks(reader: &mut impl BufRead, body: &mut Vec<u8>) -> Result<()> {
    loop {
        let size = line(reader)?;
        let size = usize::from_str_radix(size.split(';').next().unwrap_or("").trim(), 16)
            .context("size of a chunk")?;
        let start = body.len();
        body.resize(start + size, 0);
        reader
            .read_exact(&mut body[start..])
            .context("a chunk ended early")?;
        ensure!(line(reader)?.is_empty(), "a chunk is longer than it says");
        if size == 0 {
            return Ok(());
        }
    }
}

fn line(reader: &mut impl BufRead) -> Result<String> {
    let mut text = String::new();
    ensure!(
        reader.read_line(&mut text).context("no answer")? > 0,
        "the connection was closed"
    );
    Ok(text.trim_end_matches(['\r', '\n']).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Response> {
        read_response(&mut BufReader::new(text.as_bytes()))
    }

    #[test]
    fn bodies_end_where_they_say() {
        let response = parse("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nabrest").unwrap();
        assert_eq!((response.status, response.text().as_str()), (200, "ab"));
        let chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n1;x\r\nd\r\n0\r\n\r\n";
        assert_eq!(parse(chunked).unwrap().text(), "abcd");
        assert_eq!(parse("HTTP/1.0 404 No\r\n\r\nall").unwrap().text(), "all");
    }

    #[test]
    fn short_answers_are_errors() {
        assert!(parse("").is_err());
        assert!(parse("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nab").is_err());
        assert!(parse("SSH-2.0\r\n").is_err());
    }
}
