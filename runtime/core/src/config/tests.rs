use alloc::string::ToString;
use alloc::vec;
use alloc::vec::Vec;

use log::LevelFilter;

use super::*;

fn parse(line: &str) -> (Settings, Vec<std::string::String>) {
    let (settings, complaints) = Settings::parse(line.as_bytes(), &["port", "greeting"]);
    let complaints = complaints.iter().map(Complaint::to_string).collect();
    (settings, complaints)
}

fn ipv4(line: &str, index: usize) -> Ipv4Config {
    let (settings, complaints) = parse(line);
    assert_eq!(complaints, Vec::<std::string::String>::new());
    settings.address_config(index, None).0.ipv4
}

fn static_ipv4(address: &str, prefix_length: u8, gateway: Option<&str>) -> Ipv4Config {
    Ipv4Config::Static {
        address: address.parse().unwrap(),
        prefix_length,
        gateway: gateway.map(|gateway| gateway.parse().unwrap()),
        source: AddressSource::CommandLine,
    }
}

#[test]
fn static_address_with_gateway_and_name_server() {
    let (settings, complaints) =
        parse("ip=10.0.2.15/24 gw=10.0.2.2 dns=10.0.2.3,fd00::3 dns=9.9.9.9");
    assert!(complaints.is_empty());
    assert_eq!(
        settings.address_config(0, None).0,
        AddressConfig {
            ipv4: static_ipv4("10.0.2.15", 24, Some("10.0.2.2")),
            ipv6: Ipv6Config::Auto,
        }
    );
    let dns: Vec<IpAddr> = vec![
        "10.0.2.3".parse().unwrap(),
        "fd00::3".parse().unwrap(),
        "9.9.9.9".parse().unwrap(),
    ];
    assert_eq!(settings.dns, dns);
}

#[test]
fn nothing_said_means_dhcp_and_router_advertisements() {
    let (settings, _) = parse("");
    assert_eq!(
        settings.address_config(0, None),
        (
            AddressConfig {
                ipv4: Ipv4Config::Dhcp,
                ipv6: Ipv6Config::Auto
            },
            vec![]
        )
    );
}

#[test]
fn each_interface_has_its_own_keys() {
    let line = "ip=10.0.0.1/8 net1.ip=10.1.0.1/16 net1.gw=10.1.0.9 net2.ip=dhcp net3.ip=off";
    assert_eq!(ipv4(line, 0), static_ipv4("10.0.0.1", 8, None));
    assert_eq!(ipv4(line, 1), static_ipv4("10.1.0.1", 16, Some("10.1.0.9")));
    assert_eq!(ipv4(line, 2), Ipv4Config::Dhcp);
    assert_eq!(ipv4(line, 3), Ipv4Config::Off);
    let configured: Vec<usize> = parse(line).0.configured_interfaces().collect();
    assert_eq!(configured, [0, 1, 2, 3]);
}

#[test]
fn net0_is_the_first_interface() {
    assert_eq!(
        ipv4("net0.ip=10.0.0.1/8", 0),
        static_ipv4("10.0.0.1", 8, None)
    );
}

#[test]
fn ipv6_forms() {
    let (settings, complaints) = parse("ip6=2001:db8::2/64 gw6=fe80::1 net1.ip6=off net2.ip6=auto");
    assert!(complaints.is_empty());
    assert_eq!(
        settings.address_config(0, None).0.ipv6,
        Ipv6Config::Static {
            address: "2001:db8::2".parse().unwrap(),
            prefix_length: 64,
            gateway: Some("fe80::1".parse().unwrap()),
            source: AddressSource::CommandLine,
        }
    );
    assert_eq!(settings.address_config(1, None).0.ipv6, Ipv6Config::Off);
    assert_eq!(settings.address_config(2, None).0.ipv6, Ipv6Config::Auto);
}

#[test]
fn the_host_assigns_what_the_command_line_leaves_open() {
    let (settings, _) = parse("gw=192.168.7.1");
    let (config, complaints) = settings.address_config(0, Some("192.168.7.2 2001:db8::7/48"));
    assert!(complaints.is_empty());
    assert_eq!(
        config,
        AddressConfig {
            ipv4: Ipv4Config::Static {
                address: "192.168.7.2".parse().unwrap(),
                prefix_length: 24,
                gateway: Some("192.168.7.1".parse().unwrap()),
                source: AddressSource::Host,
            },
            ipv6: Ipv6Config::Static {
                address: "2001:db8::7".parse().unwrap(),
                prefix_length: 48,
                gateway: None,
                source: AddressSource::Host,
            },
        }
    );
    let (settings, _) = parse("ip=dhcp ip6=off");
    let (config, _) = settings.address_config(0, Some("192.168.7.2 2001:db8::7"));
    assert_eq!(
        (config.ipv4, config.ipv6),
        (Ipv4Config::Dhcp, Ipv6Config::Off)
    );
}

#[test]
fn nonsense_from_the_host_is_a_complaint_and_the_rest_counts() {
    let (settings, _) = parse("");
    let (config, complaints) = settings.address_config(0, Some("300.1.1.1, 10.0.0.7/16"));
    assert!(matches!(
        config.ipv4,
        Ipv4Config::Static {
            prefix_length: 16,
            ..
        }
    ));
    assert_eq!(complaints.len(), 1);
    assert!(complaints[0].to_string().starts_with("vif ip=300.1.1.1: "));
}

#[test]
fn complaints_name_key_and_value_and_the_rest_is_honoured() {
    let (settings, complaints) = parse(
        "ip=10.0.2.300/24 quiet colour=red =x log=loud net1.mtu=9 netx.ip=1 gw=224.0.0.1 \
         dns=10.0.0.1,x ip6=fe80::1 virtio_mmio.device=zzz port=80",
    );
    assert_eq!(settings.value("port"), Some("80"));
    assert_eq!(settings.address_config(0, None).0.ipv4, Ipv4Config::Dhcp);
    assert!(settings.dns.is_empty());
    let expected = [
        "ip=10.0.2.300/24: \"10.0.2.300\" is not an IPv4 address; or say dhcp or off",
        "quiet=: not of the form key=value",
        "colour=red: unknown key; known are",
        "=x: no key before the equals sign",
        "log=loud: \"loud\" is none of off, error, warn, info, debug, trace",
        "net1.mtu=9: unknown key",
        "netx.ip=1: unknown key",
        "gw=224.0.0.1: 224.0.0.1 is not the address of one host",
        "dns=10.0.0.1,x: \"x\" is not an IP address",
        "ip6=fe80::1: the prefix length is missing, as in 2001:db8::2/64; or say auto or off",
        "virtio_mmio.device=zzz: \"zzz\" is not of the form size@base:interrupt",
    ];
    assert_eq!(complaints.len(), expected.len(), "{complaints:#?}");
    for (complaint, expected) in complaints.iter().zip(expected) {
        assert!(complaint.starts_with(expected), "{complaint} / {expected}");
    }
}

#[test]
fn prefix_lengths_out_of_range_are_refused() {
    for value in ["10.0.0.1/0", "10.0.0.1/33", "10.0.0.1/-1", "10.0.0.1/"] {
        let (_, complaints) = parse(&format!("ip={value}"));
        assert_eq!(complaints.len(), 1, "{value}");
    }
}

#[test]
fn quotes_keep_white_space() {
    let (settings, complaints) = parse("greeting=\"good  morning\" \"port=8 0\"\tlog=off");
    assert!(complaints.is_empty());
    assert_eq!(settings.value("greeting"), Some("good  morning"));
    assert_eq!(settings.value("port"), Some("8 0"));
    let (_, complaints) = parse("port=1 greeting=\"no end");
    assert_eq!(
        complaints,
        ["greeting=no end: the double quote is never closed"]
    );
}

#[test]
fn bytes_that_are_no_text_are_a_complaint() {
    let (settings, complaints) = Settings::parse(b"port=\xff log=warn\0\0", &["port"]);
    assert_eq!(settings.value("port"), None);
    assert_eq!(settings.log.level("any"), LevelFilter::Warn);
    assert_eq!(complaints.len(), 1);
    assert_eq!(complaints[0].key, "port");
}

#[test]
fn a_port_for_recordings() {
    assert_eq!(parse("capture=5555").0.capture, Some(5555));
    for value in ["0", "65536", "-1", "yes"] {
        let (settings, complaints) = parse(&format!("capture={value}"));
        assert_eq!((settings.capture, complaints.len()), (None, 1), "{value}");
    }
}

#[test]
fn log_levels_are_written_as_they_are_read() {
    for text in ["info", "off", "warn,net=debug,net::tcp=off"] {
        assert_eq!(LogLevels::parse(text).unwrap().to_string(), text);
    }
}

/// The table of the book has each key that is known, and no other.
#[test]
fn the_book_has_every_key() {
    let book = include_str!("../../../../docs/book/configuration.md");
    let rows = book.lines().filter_map(|row| row.strip_prefix("| `"));
    let mut documented: Vec<&str> = rows
        .flat_map(|row| row.split(" | ").next().unwrap().split(", "))
        .map(|key| key.trim_matches('`'))
        .collect();
    let interface = ["ip", "gw", "ip6", "gw6"].map(|key| format!("net1.{key}"));
    let mut known: Vec<&str> = KEYS.to_vec();
    known.extend(interface.iter().map(String::as_str));
    known.push("virtio_mmio.device");
    documented.sort_unstable();
    known.sort_unstable();
    assert_eq!(documented, known);
    // Each is a key indeed: its value may be refused, the key not.
    let refuses = |key: &str| {
        let (_, complaints) = parse(&format!("{key}=?"));
        complaints.iter().any(|line| line.contains("unknown key"))
    };
    for key in known {
        assert!(!refuses(key), "{key}");
    }
    assert!(refuses("no-such-key"));
}

#[test]
fn log_levels_by_target() {
    let (settings, _) = parse("log=warn,net=debug,net::tcp=off");
    assert_eq!(settings.log.level("main"), LevelFilter::Warn);
    assert_eq!(settings.log.level("network"), LevelFilter::Warn);
    assert_eq!(settings.log.level("net"), LevelFilter::Debug);
    assert_eq!(settings.log.level("net::udp"), LevelFilter::Debug);
    assert_eq!(settings.log.level("net::tcp"), LevelFilter::Off);
    assert_eq!(settings.log.most_verbose(), LevelFilter::Debug);
    assert_eq!(parse("").0.log.level("main"), LevelFilter::Info);
}

#[test]
fn microvm_devices() {
    let (settings, complaints) =
        parse("virtio_mmio.device=512@0xfeb00e00:12 virtio_mmio.device=4K@1024:5:1");
    assert!(complaints.is_empty());
    assert_eq!(
        settings.virtio_mmio_devices,
        [
            VirtioMmioDevice {
                size: 512,
                base: 0xfeb0_0e00,
                interrupt: 12
            },
            VirtioMmioDevice {
                size: 4096,
                base: 1024,
                interrupt: 5
            },
        ]
    );
}

proptest::proptest! {
    #[test]
    fn no_command_line_panics(line: Vec<u8>, assigned: std::string::String) {
        let (settings, _) = Settings::parse(&line, &["port"]);
        let _ = settings.address_config(0, Some(&assigned));
    }
}

#[test]
fn a_watchdog_has_a_number_of_seconds() {
    let (settings, complaints) = Settings::parse(b"watchdog=30", &[]);
    assert_eq!(settings.watchdog, Some(30));
    assert!(complaints.is_empty());
    for value in ["0", "-1", "86401", "on", ""] {
        let line = format!("watchdog={value}");
        let (settings, complaints) = Settings::parse(line.as_bytes(), &[]);
        assert_eq!(settings.watchdog, None);
        assert_eq!(complaints.len(), 1, "{value}");
        assert!(complaints[0].problem.contains("1 to 86400"));
    }
}
