//! Finding the guest's crate: what `cargo metadata` says about it.

use std::collections::BTreeMap;
use std::env;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use serde::Deserialize;

/// A crate that can be built as a guest.
#[derive(Clone, Debug)]
pub struct Package {
    /// Name of the package.
    pub name: String,
    /// Name of its binary target.
    pub binary: String,
    /// The source file with its main function.
    pub source: PathBuf,
    /// Path of its `Cargo.toml`.
    pub manifest: PathBuf,
    /// Cargo's target directory for it.
    pub target_directory: PathBuf,
    /// What its `[package.metadata.rekernel]` says.
    pub settings: Settings,
}

/// The table `[package.metadata.rekernel]` of a guest's `Cargo.toml`.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Settings {
    /// Ports of the guest that `run` forwards, as `tcp:80` or `udp:53`. The first is
    /// reached through `--port`, others of the same number through the same port,
    /// further numbers through the ports after it.
    pub forward: Vec<Service>,
}

impl Default for Settings {
    /// A web service, the most common guest.
    fn default() -> Self {
        Self {
            forward: vec![Service {
                protocol: Protocol::Tcp,
                port: 80,
            }],
        }
    }
}

/// A port on which a guest serves.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(try_from = "String")]
pub struct Service {
    /// The transport.
    pub protocol: Protocol,
    /// The guest's port.
    pub port: u16,
}

impl TryFrom<String> for Service {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let parsed = text.split_once(':').and_then(|(protocol, port)| {
            let protocol = match protocol {
                "tcp" => Protocol::Tcp,
                "udp" => Protocol::Udp,
                _ => return None,
            };
            let port = port.parse().ok().filter(|&port| port != 0)?;
            Some(Self { protocol, port })
        });
        parsed.ok_or_else(|| {
            format!("forward = \"{text}\" is not of the form \"tcp:80\" or \"udp:53\"")
        })
    }
}

/// A transport protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

impl Protocol {
    /// The name as QEMU and people write it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        }
    }
}

/// Finds the guest to build.
///
/// Without a `name` the manifest (or the folder's) must hold exactly one guest, or name
/// it as its own package.
///
/// # Errors
/// Where cargo cannot read the manifest, or the package does not exist, is no guest
/// or is not the only one.
pub fn find(name: Option<&str>, manifest_path: Option<&Path>) -> Result<Package> {
    let metadata = metadata(manifest_path)?;
    choose(&metadata, name)
}

/// All guests in the workspace of `manifest_path`, sorted by name.
///
/// # Errors
/// Where cargo cannot read the manifest, or the settings of a guest are wrong.
pub fn guests(manifest_path: Option<&Path>) -> Result<Vec<Package>> {
    let metadata = metadata(manifest_path)?;
    let names = guest_names(&metadata.packages);
    names
        .iter()
        .map(|name| choose(&metadata, Some(name)))
        .collect()
}

/// The cargo that called us, or the one on the search path.
pub fn cargo() -> Command {
    Command::new(env::var_os("CARGO").unwrap_or_else(|| OsString::from("cargo")))
}

fn metadata(manifest_path: Option<&Path>) -> Result<Metadata> {
    let mut command = cargo();
    command.args(["metadata", "--format-version", "1", "--no-deps"]);
    if let Some(path) = manifest_path {
        command.arg("--manifest-path").arg(path);
    }
    let output = command.output().context("cargo could not be started")?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        bail!(
            "cargo could not read the package: {}",
            said.trim().trim_start_matches("error: ")
        );
    }
    serde_json::from_slice(&output.stdout).context("cargo metadata answered in an unknown form")
}

fn choose(metadata: &Metadata, name: Option<&str>) -> Result<Package> {
    let names = guest_names(&metadata.packages);
    let known = if names.is_empty() {
        "none".to_owned()
    } else {
        names.join(", ")
    };
    let name = match (name, names.as_slice()) {
        (Some(name), _) => name.to_owned(),
        (None, [only]) => only.clone(),
        (None, _) => bail!("which guest? name one of: {known}"),
    };
    let Some(found) = metadata
        .packages
        .iter()
        .find(|package| package.name == name)
    else {
        bail!("no package `{name}` here; guests found: {known}");
    };
    let Some(binary) = found.targets.iter().find(|target| target.is_binary()) else {
        bail!("package `{name}` has no binary to boot; guests found: {known}");
    };
    if !found.is_guest() {
        bail!(
            "package `{name}` does not depend on `rekernel`, so it cannot boot; guests found: {known}"
        );
    }
    let settings = match found
        .metadata
        .as_ref()
        .and_then(|metadata| metadata.get("rekernel"))
    {
        Some(table) => Settings::deserialize(table)
            .with_context(|| format!("[package.metadata.rekernel] of `{name}`"))?,
        None => Settings::default(),
    };
    Ok(Package {
        binary: binary.name.clone(),
        source: binary.src_path.clone(),
        name,
        manifest: found.manifest_path.clone(),
        target_directory: metadata.target_directory.clone(),
        settings,
    })
}

fn guest_names(packages: &[MetadataPackage]) -> Vec<String> {
    let mut names: Vec<_> = packages
        .iter()
        .filter(|package| package.is_guest())
        .map(|package| package.name.clone())
        .collect();
    names.sort();
    names
}

#[derive(Deserialize)]
struct Metadata {
    packages: Vec<MetadataPackage>,
    target_directory: PathBuf,
}

#[derive(Deserialize)]
struct MetadataPackage {
    name: String,
    manifest_path: PathBuf,
    targets: Vec<Target>,
    dependencies: Vec<Dependency>,
    metadata: Option<BTreeMap<String, serde_json::Value>>,
}

impl MetadataPackage {
    /// A guest has something to boot and a crate that can enter it.
    fn is_guest(&self) -> bool {
        let enters =
            |dependency: &Dependency| matches!(dependency.name.as_str(), "rekernel" | "pvh-boot");
        self.targets.iter().any(Target::is_binary) && self.dependencies.iter().any(enters)
    }
}

#[derive(Deserialize)]
struct Target {
    name: String,
    kind: Vec<String>,
    src_path: PathBuf,
}

impl Target {
    fn is_binary(&self) -> bool {
        self.kind.iter().any(|kind| kind == "bin")
    }
}

#[derive(Deserialize)]
struct Dependency {
    name: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn metadata_of(packages: &str) -> Metadata {
        serde_json::from_str(&format!(
            r#"{{"target_directory": "/t", "packages": [{packages}]}}"#
        ))
        .unwrap()
    }

    const HTTP: &str = r#"{"name": "http", "manifest_path": "/w/http/Cargo.toml", "metadata": null,
        "targets": [{"name": "http", "kind": ["bin"], "src_path": "/w/src/main.rs"}], "dependencies": [{"name": "rekernel"}]}"#;
    const ECHO: &str = r#"{"name": "echo", "manifest_path": "/w/echo/Cargo.toml",
        "metadata": {"rekernel": {"forward": ["tcp:7", "udp:7"]}},
        "targets": [{"name": "echo", "kind": ["bin"], "src_path": "/w/src/main.rs"}], "dependencies": [{"name": "rekernel"}]}"#;
    const TOOL: &str = r#"{"name": "tool", "manifest_path": "/w/tool/Cargo.toml", "metadata": null,
        "targets": [{"name": "tool", "kind": ["bin"], "src_path": "/w/src/main.rs"}], "dependencies": [{"name": "clap"}]}"#;

    #[test]
    fn the_only_guest_needs_no_name() {
        let package = choose(&metadata_of(&format!("{HTTP}, {TOOL}")), None).unwrap();
        assert_eq!(package.name, "http");
        assert_eq!(package.settings, Settings::default());
    }

    #[test]
    fn several_guests_need_a_name() {
        let error = choose(&metadata_of(&format!("{HTTP}, {ECHO}")), None).unwrap_err();
        assert_eq!(error.to_string(), "which guest? name one of: echo, http");
    }

    #[test]
    fn a_wrong_name_is_answered_with_the_right_ones() {
        let error = choose(&metadata_of(&format!("{HTTP}, {ECHO}")), Some("htpp")).unwrap_err();
        assert_eq!(
            error.to_string(),
            "no package `htpp` here; guests found: echo, http"
        );
    }

    #[test]
    fn a_host_tool_is_no_guest() {
        let error = choose(&metadata_of(TOOL), Some("tool")).unwrap_err();
        assert!(
            error.to_string().contains("does not depend on `rekernel`"),
            "{error}"
        );
    }

    #[test]
    fn settings_name_the_services() {
        let package = choose(&metadata_of(ECHO), Some("echo")).unwrap();
        let services: Vec<_> = package
            .settings
            .forward
            .iter()
            .map(|service| (service.protocol, service.port))
            .collect();
        assert_eq!(services, [(Protocol::Tcp, 7), (Protocol::Udp, 7)]);
    }

    #[test]
    fn a_malformed_service_is_named() {
        let echo = ECHO.replace("udp:7", "icmp:7");
        let error = format!(
            "{:#}",
            choose(&metadata_of(&echo), Some("echo")).unwrap_err()
        );
        assert!(
            error.contains("`echo`") && error.contains("icmp:7"),
            "{error}"
        );
    }
}
