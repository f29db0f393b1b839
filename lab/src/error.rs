//! What can go wrong, by operation, with what is needed to act on it.

use std::{fmt, io, path::PathBuf, time::Duration};

/// The result of a lab operation.
pub type Result<T> = std::result::Result<T, Error>;

/// Why a lab operation failed.
#[derive(Debug)]
pub enum Error {
    /// This machine cannot host the lab at all, for example because it has no apt.
    Unsupported {
        /// What is missing or wrong, and what would do.
        reason: String,
    },
    /// Packages are missing and could not be installed from here.
    MissingPackages {
        /// The packages, by their name in this distribution.
        packages: Vec<String>,
        /// What they are needed for.
        why: String,
        /// The command that installs them.
        command: String,
    },
    /// A program this library runs on the host failed.
    Command {
        /// The command line, as typed in a shell.
        command: String,
        /// Exit status and the end of what it wrote.
        reason: String,
    },
    /// A package's content is not what was expected.
    Package {
        /// The package or file.
        name: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A release of Debian cannot be used.
    Release {
        /// The name of its suite, as it was given.
        release: String,
        /// What is wrong with it, and what would do.
        reason: String,
    },
    /// A file or folder could not be used.
    File {
        /// What was being done, as in "read".
        action: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
    /// A port asked for on the host is taken.
    PortInUse {
        /// The TCP port on 127.0.0.1.
        port: u16,
    },
    /// The caller's [`cancelled`](crate::BootOptions::cancelled) asked to give up.
    Cancelled,
    /// Something did not happen in time.
    TimedOut {
        /// What was waited for.
        waited_for: String,
        /// The limit that passed.
        limit: Duration,
        /// What is known about the machine at that moment.
        diagnosis: Box<Diagnosis>,
    },
    /// QEMU or dom0 ended, or dom0 reported that it cannot go on.
    Stopped {
        /// What was being waited for.
        waited_for: String,
        /// What ended, and how.
        reason: String,
        /// What is known about the machine at that moment.
        diagnosis: Box<Diagnosis>,
    },
    /// A step in dom0 that this library ran for itself ended with an error.
    Step {
        /// What the step was for.
        purpose: String,
        /// The exit status and standard error of the step.
        reason: String,
    },
}

impl Error {
    pub(crate) fn file(
        action: &'static str,
        path: impl Into<PathBuf>,
    ) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::File {
            action,
            path,
            source,
        }
    }

    pub(crate) fn package(name: &str, reason: &str) -> Self {
        Self::Package {
            name: name.into(),
            reason: reason.into(),
        }
    }

    /// Whether a time limit passed, as opposed to a definite failure.
    pub fn is_timeout(&self) -> bool {
        matches!(self, Self::TimedOut { .. })
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unsupported { reason } => write!(f, "the Xen lab cannot run here: {reason}"),
            Self::MissingPackages {
                packages,
                why,
                command,
            } => write!(
                f,
                "missing {} ({why}); install with: {command}",
                packages.join(" ")
            ),
            Self::Command { command, reason } => write!(f, "`{command}` failed: {reason}"),
            Self::Package { name, reason } => write!(f, "package {name}: {reason}"),
            Self::Release { release, reason } => {
                write!(f, "Debian's release `{release}`: {reason}")
            }
            Self::File {
                action,
                path,
                source,
            } => write!(f, "cannot {action} {}: {source}", path.display()),
            Self::PortInUse { port } => {
                write!(f, "port {port} of 127.0.0.1 is already in use")
            }
            Self::Cancelled => f.write_str("the boot of the lab was cancelled"),
            Self::TimedOut {
                waited_for,
                limit,
                diagnosis,
            } => write!(
                f,
                "gave up after {:.0} s waiting for {waited_for}\n{diagnosis}",
                limit.as_secs_f64()
            ),
            Self::Stopped {
                waited_for,
                reason,
                diagnosis,
            } => write!(f, "{reason} while waiting for {waited_for}\n{diagnosis}"),
            Self::Step { purpose, reason } => write!(f, "{purpose} in dom0 failed: {reason}"),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::File { source, .. } => Some(source),
            _ => None,
        }
    }
}

/// What is known about a machine that did not do what it should.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Diagnosis {
    /// Likely causes, recognised in the logs.
    pub hints: Vec<String>,
    /// The last thing dom0's start-up reported.
    pub last_stage: Option<String>,
    /// The last lines of what was waited for, such as a step or a guest.
    pub subject: Vec<String>,
    /// The last lines of the serial console (Xen and dom0's kernel).
    pub console: Vec<String>,
    /// What QEMU itself wrote.
    pub qemu: Vec<String>,
}

impl fmt::Display for Diagnosis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for hint in &self.hints {
            writeln!(f, "likely cause: {hint}")?;
        }
        if let Some(stage) = &self.last_stage {
            writeln!(f, "last stage reported by dom0: {stage}")?;
        }
        section(f, "it last wrote", &self.subject)?;
        section(f, "last lines of the serial console", &self.console)?;
        section(f, "QEMU wrote", &self.qemu)
    }
}

fn section(f: &mut fmt::Formatter<'_>, title: &str, lines: &[String]) -> fmt::Result {
    if lines.is_empty() {
        return Ok(());
    }
    writeln!(f, "{title}:")?;
    lines.iter().try_for_each(|line| writeln!(f, "  | {line}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_timeout_says_what_was_waited_for_and_shows_the_console() {
        let error = Error::TimedOut {
            waited_for: "dom0 to be ready".into(),
            limit: Duration::from_secs(90),
            diagnosis: Box::new(Diagnosis {
                hints: vec!["dom0's kernel panicked".into()],
                last_stage: Some("starting xenstored".into()),
                subject: vec![],
                console: vec!["(XEN) one".into(), "two".into()],
                qemu: vec![],
            }),
        };
        assert_eq!(
            error.to_string(),
            "gave up after 90 s waiting for dom0 to be ready\n\
             likely cause: dom0's kernel panicked\n\
             last stage reported by dom0: starting xenstored\n\
             last lines of the serial console:\n  | (XEN) one\n  | two\n"
        );
        assert!(error.is_timeout());
    }
}
