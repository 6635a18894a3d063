//! Reads an OCI archive as a registry or a runtime would: nothing counts that its digest does not vouch for.

use std::{collections::BTreeMap, io::Read as _, path::Path};

use anyhow::{Context as _, Result, ensure};
use flate2::read::GzDecoder;
use serde_json::Value;

use super::layout::digest;
use crate::json::{at, list, text};

/// An archive whose digests and sizes are right.
#[derive(Debug)]
pub(super) struct Image {
    /// Digest of its manifest.
    pub(super) digest: String,
    pub(super) manifest: Value,
    pub(super) config: Value,
    /// The layers, unpacked to tar.
    layers: Vec<Vec<u8>>,
}

impl Image {
    pub(super) fn read(archive: &[u8]) -> Result<Self> {
        let mut files: BTreeMap<String, Vec<u8>> = BTreeMap::new();
        for entry in tar::Archive::new(archive).entries().context("read the archive")? {
            let mut entry = entry.context("read the archive")?;
            let path = entry.path().context("read a path")?.to_string_lossy().into_owned();
            let mut bytes = Vec::new();
            entry.read_to_end(&mut bytes).with_context(|| format!("read {path}"))?;
            if entry.header().entry_type().is_file() {
                files.insert(path, bytes);
            }
        }
        for (path, bytes) in &files {
            if let Some(name) = path.strip_prefix("blobs/") {
                ensure!(digest(bytes).replacen(':', "/", 1) == name, "{path} is not what its name says");
            }
        }
        let json = |path: &str| -> Result<Value> {
            let bytes = files.get(path).with_context(|| format!("the archive has no {path}"))?;
            serde_json::from_slice(bytes).with_context(|| format!("read {path}"))
        };
        ensure!(*at(&json("oci-layout")?, "/imageLayoutVersion") == "1.0.0", "no layout of version 1.0.0");
        let blob = |descriptor: &Value| -> Result<&Vec<u8>> {
            let name = at(descriptor, "/digest").as_str().context("a descriptor without a digest")?;
            let path = format!("blobs/{}", name.replacen(':', "/", 1));
            let bytes = files.get(&path).with_context(|| format!("the archive has no {path}"))?;
            ensure!(*at(descriptor, "/size") == bytes.len(), "{path} is not of the size that is told");
            Ok(bytes)
        };
        let index = json("index.json")?;
        let descriptor = at(&index, "/manifests/0");
        let manifest: Value = serde_json::from_slice(blob(descriptor)?).context("read the manifest")?;
        let config: Value =
            serde_json::from_slice(blob(at(&manifest, "/config"))?).context("read the config")?;
        let mut layers = Vec::new();
        for layer in list(&manifest, "/layers") {
            let mut bytes = Vec::new();
            GzDecoder::new(&blob(layer)?[..]).read_to_end(&mut bytes).context("unpack a layer")?;
            layers.push(bytes);
        }
        let ids: Vec<Value> = layers.iter().map(|layer| digest(layer).into()).collect();
        ensure!(
            *at(&config, "/rootfs/diff_ids") == Value::from(ids),
            "the layers are not those of the config"
        );
        let digest = text(descriptor, "/digest");
        Ok(Self { digest, manifest, config, layers })
    }

    /// Puts the layers into a folder, as a container's root.
    pub(super) fn unpack(&self, root: &Path) -> Result<()> {
        for layer in &self.layers {
            tar::Archive::new(&layer[..]).unpack(root).context("unpack a layer")?;
        }
        Ok(())
    }
}
