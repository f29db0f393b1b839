//! An image of the Open Container Initiative, as an archive of its layout.
//!
//! One layer holds the guest where platforms that boot kernels from such images look for it: KraftKit
//! at `/unikraft/bin/kernel`, named by an annotation, and Edera's krata at `/kernel/image`. The command
//! line is the image's command.
//!
//! Sources: the Image Format Specification 1.1 of the OCI; `oci/README.md` of unikraft/kraftkit;
//! `docs/custom-kernels.md` of edera-dev/krata.

use std::io::{self, Write};

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::Content;
use super::archive::Archive;

const KERNEL: &str = "unikraft/bin/kernel";
const ALSO: &str = "kernel/image";

/// How KraftKit calls the platform: hypervisor and architecture.
const PLATFORM: (&str, &str) = ("xen", "x86_64");

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const CONFIGURATION: &str = "application/vnd.oci.image.config.v1+json";
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";

/// Writes the archive.
pub(super) fn write(content: &Content, into: impl Write) -> io::Result<()> {
    let mut layer = Archive::new(Vec::new());
    layer.file(KERNEL, content.guest)?;
    layer.link(ALSO, KERNEL)?;
    let layer = layer.finish()?;
    let (os, architecture) = PLATFORM;
    let configuration = json!({
        "architecture": architecture,
        "os": os,
        "config": { "Cmd": content.command_line.words() },
        "rootfs": { "type": "layers", "diff_ids": [digest(&layer)] },
        "history": [{ "created_by": "cargo rekernel image" }],
    });
    let configuration = configuration.to_string().into_bytes();
    let mut described_layer = descriptor(LAYER, &layer);
    described_layer["annotations"] = json!({
        "org.unikraft.kernel.image": format!("/{KERNEL}"),
        "org.unikraft.kernel.arch": architecture,
        "org.unikraft.kernel.plat": os,
    });
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": descriptor(CONFIGURATION, &configuration),
        "layers": [described_layer],
        "annotations": { "org.opencontainers.image.title": content.name },
    });
    let manifest = manifest.to_string().into_bytes();
    let mut described_manifest = descriptor(MANIFEST, &manifest);
    described_manifest["platform"] = json!({ "architecture": architecture, "os": os });
    described_manifest["annotations"] = json!({ "org.opencontainers.image.ref.name": "latest" });
    let index = json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.index.v1+json",
        "manifests": [described_manifest],
    });
    let mut archive = Archive::new(into);
    archive.file("oci-layout", b"{\"imageLayoutVersion\":\"1.0.0\"}")?;
    archive.file("index.json", index.to_string().as_bytes())?;
    for blob in [manifest, configuration, layer] {
        archive.file(&format!("blobs/sha256/{}", hash(&blob)), &blob)?;
    }
    archive.finish()?.flush()
}

fn descriptor(kind: &str, blob: &[u8]) -> Value {
    json!({ "mediaType": kind, "digest": digest(blob), "size": blob.len() })
}

fn digest(blob: &[u8]) -> String {
    format!("sha256:{}", hash(blob))
}

/// The SHA-256 of a blob.
fn hash(blob: &[u8]) -> String {
    lab::hexadecimal(&Sha256::digest(blob))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::bootloader::CommandLine;

    #[test]
    fn digests_are_those_of_sha256() {
        // FIPS 180-2, appendix B.1.
        assert_eq!(
            digest(b"abc"),
            "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        );
    }

    #[test]
    fn the_command_line_is_the_command() {
        let line = CommandLine::parse(&["ip=10.0.0.1/8".into(), "log=debug".into()]).unwrap();
        let content = Content::new("http".into(), b"guest", &line, 64);
        let mut bytes = Vec::new();
        write(&content, &mut bytes).unwrap();
        let mut again = Vec::new();
        write(&content, &mut again).unwrap();
        assert_eq!(bytes, again);
        let text = String::from_utf8_lossy(&bytes);
        assert!(text.contains(r#""Cmd":["ip=10.0.0.1/8","log=debug"]"#));
    }
}
