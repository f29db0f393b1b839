//! Boots the lab once and checks that it does what it promises. Ends with status 1
//! and the reason if it does not.
//!
//!     cargo run -p lab --example check
//!
//! Expected output: progress of the boot, then one line per check with the time
//! it took.

use std::{
    error::Error,
    fs, process, thread,
    time::{Duration, Instant},
};

use lab::{BootOptions, Dom0, Lab, Options};

/// A detail worth showing, or what is wrong.
type Outcome = Result<String, Box<dyn Error>>;
type Check = fn(&Dom0) -> Outcome;

const SOON: Duration = Duration::from_secs(30);

fn main() -> Result<(), Box<dyn Error>> {
    let start = Instant::now();
    let progress = |line: &str| println!("[{:6.2}] {line}", start.elapsed().as_secs_f64());
    lab::packages::ensure(&lab::requirements(), "to run Xen in", &progress)?;
    let prepared = Lab::prepare(&Options::default(), &progress)?;
    let booting = Instant::now();
    let dom0 = prepared.boot(&BootOptions::default(), &progress)?;
    println!("ready after {:.1} s", booting.elapsed().as_secs_f64());

    let checks: [(&str, Check); 8] = [
        ("Xen answers", xen_answers),
        ("status and both outputs", status_and_outputs),
        ("a step takes little time", step_time),
        ("a step without end is killed", endless_step),
        ("steps side by side", side_by_side),
        ("files both ways", files),
        ("output of several MiB", large_output),
        ("the network of dom0", network),
    ];
    for (name, check) in checks {
        let began = Instant::now();
        let detail = check(&dom0).map_err(|error| format!("{name}: {error}"))?;
        let took = began.elapsed().as_secs_f64();
        println!("ok  {name:32} {took:6.2} s  {detail}");
    }
    dom0.shut_down()?;
    println!("powered off");
    Ok(())
}

fn xen_answers(dom0: &Dom0) -> Outcome {
    let output = dom0.run("xl info", SOON)?;
    let text = output.stdout_text();
    let version = text
        .lines()
        .find(|line| line.starts_with("xen_version"))
        .ok_or(text.clone())?;
    if !text.contains("hvm") {
        return Err(format!("no HVM or PVH guests: {text}").into());
    }
    Ok(version.split_whitespace().collect::<Vec<_>>().join(" "))
}

fn status_and_outputs(dom0: &Dom0) -> Outcome {
    let script = "echo one; echo two >&2; echo three; exit 7";
    let output = dom0.run(script, SOON)?;
    expect(output.status, 7)?;
    expect(output.stdout_text(), "one\nthree\n".into())?;
    expect(output.stderr_text(), "two\n".into())?;
    let merged = dom0.run_merged(script, SOON)?;
    expect(merged.stdout_text(), "one\ntwo\nthree\n".into())?;
    let killed = dom0.run("kill -TERM $$", SOON)?;
    expect(killed.status, 128 + 15)?;
    Ok(String::new())
}

fn step_time(dom0: &Dom0) -> Outcome {
    let count = 20;
    let began = Instant::now();
    for _ in 0..count {
        expect(dom0.run("true", SOON)?.status, 0)?;
    }
    let each = began.elapsed() / count;
    if each > Duration::from_millis(500) {
        return Err(format!("{each:?} per step").into());
    }
    Ok(format!("{each:.0?} each"))
}

fn endless_step(dom0: &Dom0) -> Outcome {
    let script = "echo begun; sleep 4321 & sleep 4321";
    let error = match dom0.run(script, Duration::from_secs(2)) {
        Err(error) if error.is_timeout() => error.to_string(),
        other => return Err(format!("no timeout but {other:?}").into()),
    };
    if !error.contains("sleep 4321") || !error.contains("| begun") {
        return Err(format!("the error names neither step nor output: {error}").into());
    }
    let left = dom0.run("ps | grep 'slee[p] 4321'", SOON)?;
    expect(left.stdout_text(), String::new())?;
    Ok(String::new())
}

fn side_by_side(dom0: &Dom0) -> Outcome {
    let began = Instant::now();
    let statuses: Vec<Result<i32, lab::Error>> = thread::scope(|scope| {
        let steps = [3, 4, 5, 6].map(|status| {
            scope.spawn(move || {
                dom0.run(&format!("sleep 2; exit {status}"), SOON)
                    .map(|output| output.status)
            })
        });
        steps
            .into_iter()
            .map(|step| step.join().expect("a step's thread panicked"))
            .collect()
    });
    for (expected, status) in (3..).zip(statuses) {
        expect(status?, expected)?;
    }
    let took = began.elapsed();
    if took > Duration::from_secs(6) {
        return Err(format!("four steps of 2 s took {took:?}").into());
    }
    Ok(String::new())
}

fn files(dom0: &Dom0) -> Outcome {
    let folder = std::env::temp_dir();
    let here = folder.join(format!("lab-check-{}", process::id()));
    let back = folder.join(format!("lab-check-{}-back", process::id()));
    let result = copy_both_ways(dom0, &here, &back);
    for file in [here, back] {
        // One of them may not have come to be.
        let _ = fs::remove_file(file);
    }
    result
}

fn copy_both_ways(dom0: &Dom0, here: &std::path::Path, back: &std::path::Path) -> Outcome {
    let content = noise(8 << 20);
    fs::write(here, &content)?;
    dom0.copy_in(here, "/tmp/a folder/it's here")?;
    let script = "wc -c <'/tmp/a folder/it'\\''s here'";
    expect(
        dom0.run(script, SOON)?.stdout_text(),
        format!("{}\n", content.len()),
    )?;
    dom0.copy_out("/tmp/a folder/it's here", back)?;
    expect(fs::read(back)? == content, true)?;
    if dom0.copy_out("/no/such/file", back).is_ok() {
        return Err("copying a file that does not exist succeeded".into());
    }
    dom0.write("/root/x/text", b"written")?;
    expect(
        dom0.run("cat x/text", SOON)?.stdout_text(),
        "written".into(),
    )?;
    Ok(format!("{} MiB", content.len() >> 20))
}

fn large_output(dom0: &Dom0) -> Outcome {
    let output = dom0.run("head -c 4194304 /dev/urandom | tee /tmp/noise", SOON)?;
    expect(output.stdout.len(), 4 << 20)?;
    let file = std::env::temp_dir().join(format!("lab-check-{}-noise", process::id()));
    dom0.copy_out("/tmp/noise", &file)?;
    let same = fs::read(&file)? == output.stdout;
    fs::remove_file(&file)?;
    expect(same, true)?;
    Ok(String::new())
}

fn network(dom0: &Dom0) -> Outcome {
    let script = "ping -c 1 -W 5 10.0.2.2 && ip -brief address show xenbr0";
    let output = dom0.run_merged(script, SOON)?;
    let text = output.stdout_text();
    if !output.success() || !text.contains("10.0.2.1/24") {
        return Err(text.into());
    }
    Ok(String::new())
}

fn expect<T: PartialEq + std::fmt::Debug>(found: T, expected: T) -> Result<(), Box<dyn Error>> {
    if found == expected {
        return Ok(());
    }
    Err(format!("expected {expected:?}, found {found:?}").into())
}

/// Bytes without a pattern (xorshift, Marsaglia 2003).
fn noise(length: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    (0..length)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state.to_le_bytes()[7]
        })
        .collect()
}
