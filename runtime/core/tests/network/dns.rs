//! Host names.

use std::net::{IpAddr, SocketAddr};

use rekernel_core::executor::spawn;
use rekernel_core::net::{ResolveError, Stack, UdpOptions};
use rekernel_core::time::{Duration, Instant};

use crate::support::{CLIENT, Pair, SERVER, at, run, settle};

/// A name server that answers with `answer(query)`.
fn serve(stack: &Stack, address: [u8; 4], answer: impl Fn(&[u8]) -> Vec<Vec<u8>> + 'static) {
    let socket = stack
        .bind_udp(at(address, 53), UdpOptions::default())
        .unwrap();
    drop(spawn(async move {
        let mut query = [0; 512];
        loop {
            let (length, peer) = socket.recv_from(&mut query).await;
            for reply in answer(&query[..length]) {
                socket.send_to(&reply, peer).await.unwrap();
            }
        }
    }));
}

/// A reply to `query` with this code and these answer records, each of type and data.
fn reply(query: &[u8], code: u8, records: &[(u16, &[u8])]) -> Vec<u8> {
    let mut reply = query.to_vec();
    reply[2] = 0x81;
    reply[3] = 0x80 | code;
    reply[7] = records.len() as u8;
    for (kind, data) in records {
        // The name: a pointer to the question's.
        reply.extend([0xc0, 12]);
        reply.extend(kind.to_be_bytes());
        reply.extend([0, 1, 0, 0, 0, 60]);
        reply.extend((data.len() as u16).to_be_bytes());
        reply.extend(*data);
    }
    reply
}

async fn resolve(stack: &Stack, name: &str) -> Result<Vec<String>, ResolveError> {
    let addresses = stack.resolve(name).await?;
    Ok(addresses.iter().map(IpAddr::to_string).collect())
}

#[test]
fn names_become_addresses() {
    run(async {
        let pair = Pair::new();
        settle().await;
        serve(&pair.server, [0; 4], |query| {
            let alias = [3, b'w', b'w', b'w', 0xc0, 12];
            let records: &[(u16, &[u8])] =
                &[(5, &alias), (1, &[192, 0, 2, 1]), (1, &[192, 0, 2, 2])];
            vec![reply(query, 0, records)]
        });
        pair.client.set_dns_servers(vec![at(SERVER, 0).ip()]);
        let expected = ["192.0.2.1", "192.0.2.2"].map(str::to_owned);
        assert_eq!(
            resolve(&pair.client, "example.com").await.unwrap(),
            expected
        );
        assert_eq!(
            resolve(&pair.client, "Example.Com.").await.unwrap(),
            expected
        );
        assert_eq!(
            resolve(&pair.client, "192.0.2.9").await.unwrap(),
            ["192.0.2.9"]
        );
        assert_eq!(
            resolve(&pair.client, "2001:db8::9").await.unwrap(),
            ["2001:db8::9"]
        );
    });
}

#[test]
fn failures_are_told_apart() {
    run(async {
        let pair = Pair::new();
        settle().await;
        let name = || "example.com".to_owned();
        assert_eq!(
            resolve(&pair.client, "example.com").await,
            Err(ResolveError::NoServers)
        );
        pair.client.set_dns_servers(vec![at(SERVER, 0).ip()]);
        let long = "a".repeat(64);
        for invalid in ["", "a..b", "sp ace", &long, &"a.".repeat(130)] {
            assert_eq!(
                resolve(&pair.client, invalid).await,
                Err(ResolveError::InvalidName(invalid.to_owned()))
            );
        }
        let begin = Instant::now();
        assert_eq!(
            resolve(&pair.client, "example.com").await,
            Err(ResolveError::TimedOut(name()))
        );
        assert_eq!(begin.elapsed().as_secs(), 4);
        serve(&pair.server, [0; 4], |query| {
            vec![reply(query, if query[13] == b'f' { 2 } else { 3 }, &[])]
        });
        assert_eq!(
            resolve(&pair.client, "example.com").await,
            Err(ResolveError::NotFound(name()))
        );
        assert_eq!(
            resolve(&pair.client, "fail.com").await,
            Err(ResolveError::ServerFailed("fail.com".to_owned()))
        );
    });
}

#[test]
fn the_next_server_is_asked() {
    run(async {
        let pair = Pair::new();
        settle().await;
        serve(&pair.server, [0; 4], |query| {
            vec![reply(query, 0, &[(1, &[192, 0, 2, 1])])]
        });
        pair.client
            .set_dns_servers(vec![at([10, 0, 0, 77], 0).ip(), at(SERVER, 0).ip()]);
        let begin = Instant::now();
        assert_eq!(
            resolve(&pair.client, "example.com").await.unwrap(),
            ["192.0.2.1"]
        );
        // 2 s for the first, and at most 1 s in which it is the last neighbour asked for.
        assert!(begin.elapsed() < Duration::from_secs(3) + Duration::from_millis(100));
    });
}

#[test]
fn forged_answers_are_ignored() {
    run(async {
        let pair = Pair::new();
        settle().await;
        serve(&pair.server, [0; 4], |query| {
            let forged: &[(u16, &[u8])] = &[(1, &[6, 6, 6, 6])];
            let mut other_identifier = reply(query, 0, forged);
            other_identifier[0] ^= 1;
            let mut other_name = reply(query, 0, forged);
            other_name[13] = b'q';
            let mut other_kind = reply(query, 0, forged);
            let kind = query.len() - 3;
            other_kind[kind] = 28;
            let mut no_answer = reply(query, 0, forged);
            no_answer[2] &= 0x7f;
            vec![
                other_identifier,
                other_name,
                other_kind,
                no_answer,
                vec![],
                query[..11].to_vec(),
                reply(query, 0, &[(1, &[192, 0, 2, 1])]),
            ]
        });
        pair.client.set_dns_servers(vec![at(SERVER, 0).ip()]);
        assert_eq!(
            resolve(&pair.client, "example.com").await.unwrap(),
            ["192.0.2.1"]
        );
    });
}

#[test]
fn an_answer_from_elsewhere_is_ignored() {
    run(async {
        let pair = Pair::new();
        settle().await;
        // The right answer, from the wrong port.
        let honest = pair
            .server
            .bind_udp(at([0; 4], 53), UdpOptions::default())
            .unwrap();
        let other = pair
            .server
            .bind_udp(at([0; 4], 54), UdpOptions::default())
            .unwrap();
        drop(spawn(async move {
            let mut query = [0; 512];
            loop {
                let (length, peer): (usize, SocketAddr) = honest.recv_from(&mut query).await;
                assert_eq!(peer.ip(), at(CLIENT, 0).ip());
                let forged = reply(&query[..length], 0, &[(1, &[6, 6, 6, 6])]);
                other.send_to(&forged, peer).await.unwrap();
            }
        }));
        pair.client.set_dns_servers(vec![at(SERVER, 0).ip()]);
        assert!(matches!(
            resolve(&pair.client, "example.com").await,
            Err(ResolveError::TimedOut(_))
        ));
    });
}
