//! Boots the lab and runs each line of standard input as a step in dom0.
//!
//!     cargo run -p lab --example shell [RELEASE] [HOST_PORT:GUEST_PORT]...
//!
//! RELEASE is one of Debian's, as in trixie. Each other argument forwards a port of 127.0.0.1 to the
//! first guest that asks DHCP.
//! `:in FILE PATH` and `:out PATH FILE` copy files, `:disks` adds what guests that boot from disks need,
//! `:console NAME` shows a guest's console, `:serial` Xen's. End of input powers the machine off.

use std::{
    io::{BufRead, Write},
    path::Path,
    time::{Duration, Instant},
};

use lab::{BootOptions, Dom0, HostForward, Lab, Options, Prepared, network::FIRST_GUEST};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut options = BootOptions::default();
    let mut wanted = Options::default();
    for argument in std::env::args().skip(1) {
        let Some((host, guest)) = argument.split_once(':') else {
            wanted.release = Some(argument.parse()?);
            continue;
        };
        options.host_forwards.push(HostForward {
            host_port: host.parse()?,
            guest_address: FIRST_GUEST,
            guest_port: guest.parse()?,
        });
    }
    let start = Instant::now();
    let progress = |line: &str| eprintln!("[{:6.2}] {line}", start.elapsed().as_secs_f64());
    lab::packages::ensure(&lab::requirements(), "to run Xen in", &progress)?;
    let prepared = Lab::prepare(&wanted, &progress)?;
    let dom0 = prepared.boot(&options, &progress)?;
    progress("ready");
    for line in std::io::stdin().lock().lines().map_while(Result::ok) {
        let began = Instant::now();
        if let Err(error) = obey(&prepared, &dom0, &line) {
            eprintln!("{error}");
        }
        eprintln!("({:.3} s)", began.elapsed().as_secs_f64());
    }
    dom0.shut_down()?;
    progress("powered off");
    Ok(())
}

fn obey(prepared: &Prepared, dom0: &Dom0, line: &str) -> lab::Result<()> {
    match *line.split_whitespace().collect::<Vec<_>>() {
        [":in", file, path] => dom0.copy_in(Path::new(file), path),
        [":out", path, file] => dom0.copy_out(path, Path::new(file)),
        [":disks"] => dom0.unpack(&prepared.disk_guests()),
        [":console", name] => {
            print!("{}", dom0.guest_console(name));
            Ok(())
        }
        [":serial"] => {
            print!("{}", dom0.serial_console());
            Ok(())
        }
        _ => {
            let output = dom0.run_merged(line, Duration::from_secs(300))?;
            // A closed terminal is no reason to leave the machine running.
            let _ = std::io::stdout().write_all(&output.stdout);
            if !output.success() {
                eprintln!("exit status {}", output.status);
            }
            Ok(())
        }
    }
}
