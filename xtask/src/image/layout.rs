//! Owns the OCI archive: an image layout with one layer, in a tar, the same bytes for the same input.
//!
//! By the OCI image specification 1.1: `oci-layout`, `index.json`, and blobs named by their digests. Times are
//! the commit's, owners are 0, and entries come in a fixed order; nothing else of the machine gets in.

use std::io::Write as _;

use anyhow::{Context as _, Result};
use flate2::{Compression, GzBuilder};
use serde_json::{Value, json};

/// A file of the image's only layer.
pub(super) struct File<'a> {
    /// From the root, without a slash before it.
    pub(super) path: &'a str,
    pub(super) bytes: &'a [u8],
    pub(super) mode: u32,
}

/// What an image is, apart from its files.
pub(super) struct Description<'a> {
    /// `amd64` or `arm64`.
    pub(super) architecture: &'a str,
    /// Repository and tag, for those who load the archive.
    pub(super) name: &'a str,
    /// Seconds since 1970 of the commit.
    pub(super) time: u64,
    /// The same as RFC 3339.
    pub(super) created: &'a str,
    pub(super) labels: Value,
}

/// A user that is nobody, by the number that most images without a system use. The DaemonSet says 0.
const USER: &str = "65532:65532";

/// An image, finished.
pub(super) struct Archive {
    pub(super) bytes: Vec<u8>,
    /// Digest of the manifest, by which a registry knows the image.
    pub(super) digest: String,
}

/// SHA-256 of some bytes, as OCI writes it.
pub(super) fn digest(bytes: &[u8]) -> String {
    let hash = ring::digest::digest(&ring::digest::SHA256, bytes);
    let hex: String = hash.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256:{hex}")
}

/// Makes the archive. The first file is the entry point.
pub(super) fn archive(files: &[File<'_>], description: &Description<'_>) -> Result<Archive> {
    let Description { architecture, name, time, created, labels } = description;
    let layer = tar(files.iter().map(|file| (file.path.to_owned(), file.bytes, file.mode)), *time)?;
    let packed = gzip(&layer)?;
    let entry = files.first().context("an image without files")?.path;
    let config = json!({
        "architecture": architecture,
        "os": "linux",
        "created": created,
        "config": {
            "User": USER,
            "Entrypoint": [format!("/{entry}")],
            "Cmd": ["--help"],
            "WorkingDir": "/",
            "Labels": labels,
        },
        "rootfs": {"type": "layers", "diff_ids": [digest(&layer)]},
        "history": [{"created": created, "created_by": "cargo xtask image"}],
    });
    let config = serde_json::to_vec(&config).context("write the configuration")?;
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": descriptor("application/vnd.oci.image.config.v1+json", &config),
        "layers": [descriptor("application/vnd.oci.image.layer.v1.tar+gzip", &packed)],
        "annotations": labels,
    });
    let manifest = serde_json::to_vec(&manifest).context("write the manifest")?;
    let mut described = descriptor("application/vnd.oci.image.manifest.v1+json", &manifest);
    if let Some(fields) = described.as_object_mut() {
        fields.insert("platform".to_owned(), json!({"architecture": architecture, "os": "linux"}));
        // The first is the specification's, the second containerd's own.
        let names = json!({"org.opencontainers.image.ref.name": name, "io.containerd.image.name": name});
        fields.insert("annotations".to_owned(), names);
    }
    let index = json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.index.v1+json",
        "manifests": [described],
    });
    let index = serde_json::to_vec(&index).context("write the index")?;
    let digest_of_manifest = digest(&manifest);
    let blob = |bytes: &[u8]| digest(bytes).replacen(':', "/", 1);
    let mut entries = vec![
        ("oci-layout".to_owned(), &br#"{"imageLayoutVersion":"1.0.0"}"#[..], 0o644),
        ("index.json".to_owned(), &index, 0o644),
    ];
    for bytes in [&manifest, &config, &packed] {
        entries.push((format!("blobs/{}", blob(bytes)), bytes, 0o644));
    }
    Ok(Archive { bytes: tar(entries.into_iter(), *time)?, digest: digest_of_manifest })
}

fn descriptor(media_type: &str, bytes: &[u8]) -> Value {
    json!({"mediaType": media_type, "digest": digest(bytes), "size": bytes.len()})
}

fn tar<'a>(entries: impl Iterator<Item = (String, &'a [u8], u32)>, time: u64) -> Result<Vec<u8>> {
    let mut archive = tar::Builder::new(Vec::new());
    let mut folders: Vec<String> = Vec::new();
    for (path, bytes, mode) in entries {
        for (end, _) in path.match_indices('/') {
            let folder = path.get(..=end).unwrap_or_default().to_owned();
            if !folders.contains(&folder) {
                let mut header = header(0, 0o755, time);
                header.set_entry_type(tar::EntryType::Directory);
                archive
                    .append_data(&mut header, &folder, &[][..])
                    .with_context(|| format!("pack {folder}"))?;
                folders.push(folder);
            }
        }
        let mut header = header(bytes.len() as u64, mode, time);
        archive.append_data(&mut header, &path, bytes).with_context(|| format!("pack {path}"))?;
    }
    archive.into_inner().context("end the tar")
}

fn header(size: u64, mode: u32, time: u64) -> tar::Header {
    let mut header = tar::Header::new_ustar();
    header.set_size(size);
    header.set_mode(mode);
    header.set_mtime(time);
    header.set_uid(0);
    header.set_gid(0);
    header
}

fn gzip(bytes: &[u8]) -> Result<Vec<u8>> {
    // Neither a name nor a time in the header.
    let mut packer = GzBuilder::new().write(Vec::new(), Compression::best());
    packer.write_all(bytes).context("pack the layer")?;
    packer.finish().context("pack the layer")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{Archive, Description, File, archive, digest};

    fn made() -> Archive {
        let files = [
            File { path: "plainsight", bytes: b"\x7fELF", mode: 0o755 },
            File { path: "licenses/LICENSE", bytes: b"terms", mode: 0o644 },
        ];
        let labels = json!({"org.opencontainers.image.title": "plainsight"});
        let description = Description {
            architecture: "amd64",
            name: "localhost/plainsight:1",
            time: 1_700_000_000,
            created: "2023-11-14T22:13:20Z",
            labels,
        };
        archive(&files, &description).unwrap()
    }

    #[test]
    fn the_same_input_makes_the_same_bytes() {
        assert_eq!(made().bytes, made().bytes);
    }

    #[test]
    fn a_digest_is_what_sha256_says() {
        assert_eq!(digest(b"abc"), "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    }

    #[test]
    fn the_archive_can_be_read_back() {
        let made = made();
        let image = super::super::unpack::Image::read(&made.bytes).unwrap();
        assert_eq!(image.digest, made.digest);
        assert_eq!(image.config["config"]["User"], "65532:65532");
        let folder = tempfile::tempdir().unwrap();
        image.unpack(folder.path()).unwrap();
        assert_eq!(std::fs::read(folder.path().join("licenses/LICENSE")).unwrap(), b"terms");
    }

    #[test]
    fn a_changed_byte_is_noticed() {
        let made = made();
        // One in the packed layer, which lies last.
        let mut bytes = made.bytes;
        let place = bytes.windows(4).rposition(|window| window == [0x1f, 0x8b, 8, 0]).unwrap() + 12;
        bytes[place] ^= 1;
        let error = super::super::unpack::Image::read(&bytes).unwrap_err();
        assert!(error.to_string().contains("is not what its name says"), "{error}");
    }
}
