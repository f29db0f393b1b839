//! What a run found: a table for the console, JSON, and plots.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use lab::Prepared;
use serde_json::{Value, json};

use super::candidates::Candidate;
use super::figures::{self, Figure};
use super::run::{Files, Outcome, Plan};
use super::statistics::Spread;
use super::svg;

/// A whole run.
pub(crate) struct Report {
    pub(crate) environment: Environment,
    pub(crate) outcome: Outcome,
}

/// Where and how it was measured.
pub(crate) struct Environment(Vec<(&'static str, String)>);

const CAUTION: &str = "software emulation, noisy: only ratios mean anything";

impl Environment {
    pub(crate) fn of(lab: &Prepared, files: &Files, plan: &Plan) -> Self {
        let arguments: Vec<_> = std::env::args().skip(1).collect();
        let nginx = files.linux.package_version("nginx").unwrap_or("unknown");
        Self(vec![
            ("command", format!("cargo xtask {}", arguments.join(" "))),
            ("caution", CAUTION.to_owned()),
            ("Xen", lab.xen_version().to_owned()),
            ("dom0's kernel", lab.kernel_version().to_owned()),
            ("QEMU", format!("{}, 2 processors", lab.qemu_version())),
            (
                "Linux guests",
                format!("{}, nginx {nginx}", files.linux.kernel_version()),
            ),
            (
                "guests",
                "256 MiB, 1 virtual processor pinned to one that dom0 does not use".to_owned(),
            ),
            (
                "tsc_mode",
                format!("{:?} for all guests", plan.tsc).to_lowercase(),
            ),
            ("rounds", plan.rounds.to_string()),
            ("length of a load", format!("{} ms", plan.load.as_millis())),
        ])
    }
}

impl Report {
    /// Medians of all candidates, and the ratios.
    pub(crate) fn table(&self) -> String {
        let mut text = String::new();
        // Writing to a String cannot fail.
        for (name, value) in &self.environment.0 {
            let _ = writeln!(text, "{name}: {value}");
        }
        let mut head = format!("\n{:<54}", "medians");
        for candidate in Candidate::ALL {
            let _ = write!(head, "{:>11}", candidate.name());
        }
        let _ = writeln!(text, "{head}");
        for figure in self.measured() {
            let _ = write!(text, "{:<54}", labelled(figure));
            for candidate in Candidate::ALL {
                let spread = self.outcome.samples.spread(figure, candidate);
                let _ = write!(
                    text,
                    "{:>11}",
                    spread.map_or("-".to_owned(), |spread| number(spread.median))
                );
            }
            text.push('\n');
        }
        let _ = writeln!(
            text,
            "\n{:<54}{:>32}{:>32}",
            "rekernel / Linux: median (least-most) of rounds",
            "PVH, aimed at",
            "the better, aimed at"
        );
        for figure in self.measured() {
            let ratios = self.ratios(figure);
            if ratios.iter().all(|(ratio, _)| ratio.is_none()) {
                continue;
            }
            let _ = write!(text, "{:<54}", figure.name);
            for (ratio, target) in ratios {
                let _ = write!(text, "{:>32}", judged(figure, ratio, target));
            }
            text.push('\n');
        }
        for figure in self.measured() {
            let own = self.outcome.samples.spread(figure, Candidate::Rekernel);
            if figure.bound.is_some() && own.is_some() {
                let judged = judged(figure, own, figure.bound);
                let _ = writeln!(text, "{:<54}{judged:>32}  (rekernel alone)", figure.name);
            }
        }
        for failure in &self.outcome.failures {
            let _ = writeln!(text, "failed: {failure}");
        }
        text
    }

    /// Writes `results.json`, `results.txt` and `ratios.svg`; returns their paths.
    pub(crate) fn write(&self, folder: &Path) -> Result<Vec<PathBuf>> {
        fs::create_dir_all(folder)
            .with_context(|| format!("{} cannot be made", folder.display()))?;
        let json = serde_json::to_string_pretty(&self.json())? + "\n";
        let facts = self.environment.0.iter();
        let caption: Vec<_> = facts
            .map(|(name, value)| format!("{name}: {value}"))
            .collect();
        let files = [
            ("results.json", json),
            ("results.txt", self.table()),
            ("ratios.svg", svg::ratios(&self.bars(), &caption)),
        ];
        let mut written = Vec::new();
        for (name, content) in files {
            let path = folder.join(name);
            fs::write(&path, content)
                .with_context(|| format!("{} cannot be written", path.display()))?;
            written.push(path);
        }
        Ok(written)
    }

    fn measured(&self) -> impl Iterator<Item = &'static Figure> {
        figures::ALL.iter().filter(|figure| {
            self.outcome
                .samples
                .iter()
                .any(|sample| sample.figure == **figure)
        })
    }

    /// Against Linux PVH and against the better Linux, with what is aimed at.
    fn ratios(&self, figure: &Figure) -> [(Option<Spread>, Option<f64>); 2] {
        let pvh = self.outcome.samples.ratio(figure, Candidate::LinuxPvh);
        let best = self.outcome.samples.ratio_to_best_linux(figure);
        [(pvh, figure.target.0), (best, figure.target.1)]
    }

    fn bars(&self) -> Vec<svg::Row> {
        self.measured()
            .filter(|figure| self.outcome.samples.ratio_to_best_linux(figure).is_some())
            .map(|figure| svg::Row {
                label: figure.name,
                better: figure.better,
                bars: self.ratios(figure),
            })
            .collect()
    }

    fn json(&self) -> Value {
        let environment: serde_json::Map<_, _> = self
            .environment
            .0
            .iter()
            .map(|(name, value)| ((*name).to_owned(), json!(value)))
            .collect();
        let figures: Vec<_> = self
            .measured()
            .map(|figure| {
                let [(pvh, pvh_target), (best, best_target)] = self.ratios(figure);
                json!({
                    "figure": figure.name,
                    "unit": figure.unit,
                    "better": format!("{:?}", figure.better).to_lowercase(),
                    "ratio to linux-pvh": spread_json(pvh),
                    "aimed at, linux-pvh": pvh_target,
                    "ratio to the better linux": spread_json(best),
                    "aimed at, the better linux": best_target,
                    "aimed at, rekernel alone": figure.bound,
                    "candidates": self.candidates_json(figure),
                })
            })
            .collect();
        json!({
            "environment": environment,
            "figures": figures,
            "failures": self.outcome.failures,
        })
    }

    fn candidates_json(&self, figure: &Figure) -> Value {
        let of = |candidate: Candidate| {
            let spread = self.outcome.samples.spread(figure, candidate)?;
            let values = self.outcome.samples.iter();
            let values = values
                .filter(|sample| sample.figure == *figure && sample.candidate == candidate)
                .map(|sample| sample.value);
            let mut value = spread_json(Some(spread));
            value["rounds"] = values.collect();
            Some((candidate.name().to_owned(), value))
        };
        Value::Object(Candidate::ALL.into_iter().filter_map(of).collect())
    }
}

fn spread_json(spread: Option<Spread>) -> Value {
    spread.map_or(
        Value::Null,
        |spread| json!({ "median": spread.median, "least": spread.least, "most": spread.most }),
    )
}

fn labelled(figure: &Figure) -> String {
    match figure.unit {
        "" => figure.name.to_owned(),
        unit => format!("{} [{unit}]", figure.name),
    }
}

/// `0.45 (0.41-0.50) <= 0.5 yes`.
fn judged(figure: &Figure, ratio: Option<Spread>, target: Option<f64>) -> String {
    let Some(ratio) = ratio else {
        return "-".to_owned();
    };
    let Spread {
        median,
        least,
        most,
        ..
    } = ratio;
    let mut text = format!("{} ({}-{})", number(median), number(least), number(most));
    if let Some(target) = target {
        let (sign, verdict) = (
            match figure.better {
                figures::Better::Lower => "<=",
                figures::Better::Higher => ">=",
            },
            if figure.better.meets(median, target) {
                "yes"
            } else {
                "NO"
            },
        );
        let _ = write!(text, " {sign} {} {verdict}", number(target));
    }
    text
}

/// Three digits.
fn number(value: f64) -> String {
    let digits = match value.abs() {
        size if size >= 100.0 => 0,
        size if size >= 10.0 => 1,
        size if size >= 1.0 => 2,
        _ => 3,
    };
    format!("{value:.digits$}")
}

#[cfg(test)]
mod tests {
    use super::super::statistics::{Sample, Samples};
    use super::*;

    fn report() -> Report {
        let mut samples = Samples::default();
        for (round, ours, theirs) in [(0, 10.0, 40.0), (1, 30.0, 40.0), (2, 10.0, 40.0)] {
            for (candidate, value) in [
                (Candidate::Rekernel, ours),
                (Candidate::LinuxPvh, theirs),
                (Candidate::LinuxPv, theirs / 4.0),
            ] {
                samples.push(Sample {
                    round,
                    candidate,
                    figure: figures::ROUND_TRIP,
                    value,
                });
            }
        }
        Report {
            environment: Environment(vec![("command", "cargo xtask bench".to_owned())]),
            outcome: Outcome {
                samples,
                failures: vec!["round 2, linux-pvh, repeated: it died".to_owned()],
            },
        }
    }

    #[test]
    fn the_table_has_medians_ratios_and_verdicts() {
        let table = report().table();
        let row: Vec<_> = table
            .lines()
            .filter(|line| line.starts_with(figures::ROUND_TRIP.name))
            .collect();
        assert_eq!(row.len(), 2, "{table}");
        assert!(row[0].contains("10.0       40.0       10.0"), "{table}");
        assert!(
            row[1].contains("0.250 (0.250-0.750) <= 0.500 yes"),
            "{table}"
        );
        assert!(row[1].contains("1.00 (1.00-3.00) <= 0.800 NO"), "{table}");
        assert!(
            table.contains("failed: round 2, linux-pvh, repeated: it died"),
            "{table}"
        );
    }

    #[test]
    fn the_json_has_every_round() {
        let json = report().json();
        let figure = &json["figures"][0];
        assert_eq!(
            figure["candidates"]["rekernel"]["rounds"],
            json!([10.0, 30.0, 10.0])
        );
        assert_eq!(figure["ratio to linux-pvh"]["median"], json!(0.25));
        assert_eq!(json["environment"]["command"], json!("cargo xtask bench"));
    }

    #[test]
    fn numbers_have_three_digits() {
        assert_eq!(number(1234.5), "1234");
        assert_eq!(number(12.345), "12.3");
        assert_eq!(number(1.234), "1.23");
        assert_eq!(number(0.01234), "0.012");
    }
}
