//! One run: files are built and brought to dom0, then rounds.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use cargo_rekernel::build::{self, Guest as BuiltGuest};
use cargo_rekernel::package::{self, cargo};
use cargo_rekernel::progress::{Took, status, warning};
use clap::ValueEnum;
use lab::{Dom0, GuestFile, LinuxGuest, LinuxRecipe};

use super::candidates::{Candidate, Image};
use super::dom0::{GUEST_PROCESSOR, Host, XL_LIMIT};
use super::figures::{self, Figure};
use super::measurements::{self, Measurement, Target};
use super::statistics::{Sample, Samples};
use crate::guests::workspace;

/// What a run does.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) rounds: u32,
    pub(crate) candidates: Vec<Candidate>,
    pub(crate) measurements: Vec<Measurement>,
    /// How long each load lasts.
    pub(crate) load: Duration,
    /// Connections held open by the measurement of idle ones.
    pub(crate) idle_connections: u32,
    pub(crate) tsc: TscMode,
}

/// How guests read the time stamp counter: `tsc_mode` of xl's configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum TscMode {
    /// By the processor itself
    Native,
    /// As Xen chooses: through the hypervisor where the host's counter is not known to be
    /// reliable, as under QEMU
    Default,
}

/// What is brought to dom0.
pub(crate) struct Files {
    guests: BTreeMap<String, BuiltGuest>,
    client: PathBuf,
    peer: PathBuf,
    pub(super) linux: LinuxGuest,
}

const LINUX: LinuxRecipe = LinuxRecipe {
    kernel: "linux-image-cloud-amd64",
    packages: &["busybox-static", "nginx"],
    programs: &["busybox", "nginx"],
    modules: &["xen-netfront"],
};

const TRIPLE: &str = "x86_64-unknown-linux-gnu";

impl Files {
    /// Builds and downloads what is missing.
    pub(crate) fn prepare() -> Result<Self> {
        let progress = |line: &str| status("Lab", line);
        let linux = LinuxGuest::prepare(&lab::Options::default(), &LINUX, &progress)?;
        let all = package::guests(Some(&workspace().join("Cargo.toml")))?;
        let wanted = Image::ALL.map(Image::package);
        let chosen: Vec<_> = all
            .into_iter()
            .filter(|package| wanted.contains(&package.name.as_str()))
            .collect();
        let folder = chosen
            .first()
            .context("no guest to measure")?
            .target_directory
            .join(TRIPLE)
            .join("release");
        let guests = build::build_all(&chosen)?;
        // The peer runs where there may be no library; the client loads one of Xen's.
        build_program("bench-peer", "-Ctarget-feature=+crt-static")?;
        build_program("bench-client", "")?;
        Ok(Self {
            guests: guests
                .into_iter()
                .map(|guest| (guest.package.name.clone(), guest))
                .collect(),
            client: folder.join("bench-client"),
            peer: folder.join("bench-peer"),
            linux,
        })
    }

    fn guest(&self, image: Image) -> Result<&BuiltGuest> {
        let name = image.package();
        self.guests
            .get(name)
            .with_context(|| format!("`{name}` was not built"))
    }

    /// The files of ours in the Linux guests and beside nginx in dom0.
    fn linux_files(&self) -> Result<Vec<GuestFile>> {
        let file = |path: &str, executable, content| GuestFile {
            path: path.to_owned(),
            executable,
            content,
        };
        let init = include_bytes!("../../../bench/linux/init.sh");
        let configuration = include_bytes!("../../../bench/linux/nginx.conf");
        Ok(vec![
            file("init", true, init.to_vec()),
            file("bench/nginx.conf", false, configuration.to_vec()),
            file("bench/peer", true, read(&self.peer)?),
            file(&format!("bench/www{}", measurements::PATH), false, {
                let length = measurements::PATH.rsplit('/').next().context("no length")?;
                vec![0; length.parse()?]
            }),
        ])
    }

    /// Brings everything to dom0, and starts the services there.
    fn install(&self, host: &Host) -> Result<()> {
        for image in Image::ALL {
            let target = format!("/bench/{}", image.package());
            host.dom0.copy_in(&self.guest(image)?.elf, &target)?;
        }
        host.dom0.copy_in(&self.client, "/bench/client")?;
        let wants = |wanted: fn(&Candidate) -> bool| host.plan.candidates.iter().any(wanted);
        if wants(|candidate| candidate.is_linux()) {
            host.dom0.copy_in(&self.linux.kernel(), "/bench/linux")?;
            let archive = self.linux.archive(&self.linux_files()?)?;
            host.dom0.write("/bench/linux.cpio", &archive)?;
        }
        if wants(|candidate| *candidate == Candidate::Loopback) {
            self.start_in_dom0(host)?;
        }
        Ok(())
    }

    /// The services of the Linux guests in dom0 itself, in a root of their own.
    fn start_in_dom0(&self, host: &Host) -> Result<()> {
        host.dom0.copy_in(&self.linux.base(), "/bench/base.cpio")?;
        for file in self.linux_files()? {
            host.dom0
                .write(&format!("/bench/root/{}", file.path), &file.content)?;
        }
        let script = "set -e; cd /bench/root; chmod 755 bench/peer
             cpio -idu <../base.cpio 2>/dev/null; rm ../base.cpio; mount -o bind /dev dev
             chroot . /usr/bin/nginx -e stderr -c /bench/nginx.conf
             setsid chroot . /bench/peer </dev/null >/dev/null 2>&1 &";
        host.sh(script, XL_LIMIT)?;
        Ok(())
    }

    /// Size in bytes of what is shipped to boot a candidate.
    fn image_size(&self, candidate: Candidate) -> Result<u64> {
        let size = |path: &Path| -> Result<u64> {
            Ok(fs::metadata(path)
                .with_context(|| path.display().to_string())?
                .len())
        };
        if candidate.is_linux() {
            let archive = self.linux.archive(&self.linux_files()?)?;
            return Ok(size(&self.linux.packed_kernel())? + archive.len() as u64);
        }
        let image = match candidate {
            Candidate::Floor => Image::Floor,
            _ => Image::Http,
        };
        Ok(self.guest(image)?.elf_bytes)
    }
}

fn read(path: &Path) -> Result<Vec<u8>> {
    fs::read(path).with_context(|| format!("{} cannot be read", path.display()))
}

/// Builds a program for Linux. Naming the target keeps the flags off build scripts.
fn build_program(package: &str, flags: &str) -> Result<()> {
    status("Building", package);
    let outcome = cargo()
        .args(["build", "--quiet", "--release", "--target", TRIPLE])
        .args(["--package", package])
        .env("CARGO_ENCODED_RUSTFLAGS", flags)
        .current_dir(workspace())
        .status()
        .context("cargo could not be started")?;
    ensure!(outcome.success(), "{package} does not build");
    Ok(())
}

/// What came of a run.
pub(crate) struct Outcome {
    pub(crate) samples: Samples,
    /// What went wrong, as it is to be told: turns that were repeated, or given up.
    pub(crate) failures: Vec<String>,
}

/// Takes all measurements of the plan.
///
/// A guest that fails gets a second chance in the same round; what it misses then is missing from
/// the samples.
pub(crate) fn run(dom0: &Dom0, files: &Files, plan: &Plan) -> Result<Outcome> {
    let host = Host { dom0, plan };
    let mut failures = Vec::new();
    if let Err(error) = dom0.pin_processors(GUEST_PROCESSOR + 1) {
        failures.push(format!(
            "emulated processors move between the host's: {error}"
        ));
    }
    files.install(&host)?;
    let mut run = Run {
        host: &host,
        files,
        samples: Samples::default(),
        failures,
    };
    run.once()?;
    for round in 0..plan.rounds {
        let started = Instant::now();
        // Each candidate comes first once, so that nobody always follows the same one.
        let mut order = plan.candidates.clone();
        order.rotate_left(round as usize % plan.candidates.len());
        for candidate in order {
            run.turn_or_failure(round, candidate);
        }
        let took = Took(started.elapsed());
        status(
            "Measured",
            &format!("round {} of {} in {took}", round + 1, plan.rounds),
        );
    }
    Ok(Outcome {
        samples: run.samples,
        failures: run.failures,
    })
}

struct Run<'a> {
    host: &'a Host<'a>,
    files: &'a Files,
    samples: Samples,
    failures: Vec<String>,
}

impl Run<'_> {
    fn wants(&self, measurement: Measurement) -> bool {
        self.host.plan.measurements.contains(&measurement)
    }

    /// What does not differ from round to round. Counts as the first round's.
    fn once(&mut self) -> Result<()> {
        let host = self.host;
        for candidate in host.plan.candidates.clone() {
            if self.wants(Measurement::Size) && candidate.is_guest() {
                let kibibytes = self.files.image_size(candidate)? as f64 / 1024.0;
                self.record(0, candidate)(figures::IMAGE_SIZE, kibibytes);
            }
            if self.wants(Measurement::Memory) && candidate.is_guest() && candidate.serves() {
                say(candidate, "least memory");
                measurements::least_memory(host, candidate, &mut self.record(0, candidate))?;
            }
        }
        if self.wants(Measurement::Idle) && host.plan.candidates.contains(&Candidate::Rekernel) {
            let candidate = Candidate::Rekernel;
            say(candidate, "idle connections");
            let guest = host.create(candidate, Image::Bench, None)?;
            measurements::boot(host, &guest, candidate, &mut |_, _| {})?;
            let target = target(host, candidate);
            guest.explain(target.idle(&mut self.record(0, candidate)))?;
        }
        Ok(())
    }

    /// One candidate's turn in a round, or two where the first fails.
    fn turn_or_failure(&mut self, round: u32, candidate: Candidate) {
        let before = self.samples.len();
        for chance in ["repeated", "given up"] {
            let Err(error) = self.turn(round, candidate) else {
                return;
            };
            // Half a turn is no basis for ratios.
            self.samples.truncate(before);
            let name = candidate.name();
            warning(&format!("round {}, {name}, {chance}: {error:#}", round + 1));
            let first = error.to_string();
            let first = first.lines().next().unwrap_or_default().to_owned();
            self.failures
                .push(format!("round {}, {name}, {chance}: {first}", round + 1));
        }
    }

    /// One candidate's turn in a round.
    fn turn(&mut self, round: u32, candidate: Candidate) -> Result<()> {
        let host = self.host;
        let measurements = host.plan.measurements.iter().copied();
        let loads: Vec<_> = measurements
            .filter(|measurement| measurement.is_load())
            .collect();
        let boots = self.wants(Measurement::Boot);
        if candidate == Candidate::Loopback {
            return self.loads(round, candidate, &loads);
        }
        let first = match candidate {
            Candidate::Rekernel if boots => Image::Http,
            Candidate::Floor => Image::Floor,
            _ => Image::Bench,
        };
        if !boots && !candidate.serves() {
            return Ok(());
        }
        say(candidate, "boot");
        let mut guest = host.create(candidate, first, None)?;
        let mut record = self.record(round, candidate);
        measurements::boot(host, &guest, candidate, &mut |figure, value| {
            if boots {
                record(figure, value);
            }
        })?;
        drop(record);
        if loads.is_empty() || !candidate.serves() {
            return Ok(());
        }
        if first == Image::Http {
            // The example has no services but HTTP.
            drop(guest);
            guest = host.create(candidate, Image::Bench, None)?;
            measurements::boot(host, &guest, candidate, &mut |_, _| {})?;
        }
        // A guest that serves may still be busy with what comes after.
        host.sh("sleep 2", XL_LIMIT)?;
        guest.explain(self.loads(round, candidate, &loads))
    }

    fn loads(&mut self, round: u32, candidate: Candidate, loads: &[Measurement]) -> Result<()> {
        for &load in loads {
            say(candidate, &format!("{load:?}").to_lowercase());
            let target = target(self.host, candidate);
            target
                .measure(load, &mut self.record(round, candidate))
                .with_context(|| format!("{load:?}"))?;
        }
        Ok(())
    }

    fn record(&mut self, round: u32, candidate: Candidate) -> impl FnMut(Figure, f64) {
        move |figure, value| {
            self.samples.push(Sample {
                round,
                candidate,
                figure,
                value,
            });
        }
    }
}

fn target<'a>(host: &'a Host<'a>, candidate: Candidate) -> Target<'a> {
    Target {
        host,
        candidate,
        address: candidate.address(),
    }
}

fn say(candidate: Candidate, what: &str) {
    status("Measuring", &format!("{}: {what}", candidate.name()));
}
