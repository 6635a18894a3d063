//! Owns the reading of identities and policy from files: YAML and JSON as kubectl prints and applies them.
//!
//! One bad document costs itself and nothing else: it is reported with its file, number and field, and all
//! others count. Documents are split at the markers before they are parsed (YAML 1.2 §9.1 lets no content
//! line begin with one), so that a syntax error cannot swallow its neighbours.

use std::{
    fmt, fs, io,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use serde::Deserialize;
use serde_json::{Map, Value, value::RawValue};
use tokio_util::sync::CancellationToken;

use super::{
    objects::{Object, Pod},
    store::{SharedStore, Store},
    wire,
};
use crate::readiness::BlockReady;

/// What a set of files held.
#[derive(Debug, Default)]
pub struct Manifests {
    /// The objects of the kinds that are used.
    pub objects: Vec<Object>,
    /// Pod templates of workloads, as pods without addresses: what would run.
    pub templates: Vec<Pod>,
    /// Documents and files that could not be used.
    pub errors: Vec<ManifestError>,
    /// Files that were read.
    pub files: usize,
    /// Objects of kinds that are used; a source hands them to its store and keeps none.
    pub used: usize,
    /// Objects of kinds that are not used.
    pub ignored: usize,
}

/// A file or a document that could not be used.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    /// The file or folder could not be read.
    #[error("{}: cannot be read", path.display())]
    Unreadable {
        /// The file or folder.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A document is no YAML or JSON.
    #[error("{}: document {document}: line {line}: {why}", path.display())]
    Syntax {
        /// The file.
        path: PathBuf,
        /// The document's number in it, from 1.
        document: usize,
        /// The line of the file.
        line: u64,
        /// What is wrong there.
        why: String,
    },
    /// An object has a field that is wrong or missing.
    #[error("{}: document {document}: {object}: {why}", path.display())]
    Field {
        /// The file.
        path: PathBuf,
        /// The document's number in it, from 1.
        document: usize,
        /// Kind, namespace and name, as far as they could be read.
        object: String,
        /// The field's path and what is wrong with it.
        why: String,
    },
}

/// Reads files, and folders with all that is below them.
///
/// Folders give their `*.yaml`, `*.yml` and `*.json` in the order of their names; a path that is named
/// itself is read whatever it is called.
#[must_use]
pub fn read(paths: &[PathBuf]) -> Manifests {
    let mut objects = Vec::new();
    let manifests = read_into(paths, &mut |object| objects.push(object));
    Manifests { objects, ..manifests }
}

/// What is read, and where its objects go as they come: those of a large cluster are never held twice.
struct Reading<'a> {
    manifests: Manifests,
    object: &'a mut dyn FnMut(Object),
}

/// [`read`], with the objects handed on.
fn read_into(paths: &[PathBuf], object: &mut dyn FnMut(Object)) -> Manifests {
    let mut reading = Reading { manifests: Manifests::default(), object };
    for file in list(paths, &mut reading.manifests.errors) {
        match fs::read_to_string(&file) {
            Ok(text) => {
                reading.manifests.files += 1;
                read_text(&file, &text, &mut reading);
            }
            Err(source) => {
                reading.manifests.errors.push(ManifestError::Unreadable { path: file, source });
            }
        }
    }
    reading.manifests
}

/// Reads a text as if it stood in a file called `name`.
#[must_use]
pub fn read_str(name: &str, text: &str) -> Manifests {
    let mut objects = Vec::new();
    let mut object = |object| objects.push(object);
    let mut reading =
        Reading { manifests: Manifests { files: 1, ..Manifests::default() }, object: &mut object };
    read_text(Path::new(name), text, &mut reading);
    let manifests = reading.manifests;
    Manifests { objects, ..manifests }
}

fn list(paths: &[PathBuf], errors: &mut Vec<ManifestError>) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for path in paths {
        if path.is_dir() { walk(path, 0, &mut files, errors) } else { files.push(path.clone()) }
    }
    files
}

fn walk(folder: &Path, depth: usize, files: &mut Vec<PathBuf>, errors: &mut Vec<ManifestError>) {
    // A link that leads back up would be walked for ever.
    const MAX_DEPTH: usize = 16;
    let entries = fs::read_dir(folder).and_then(|entries| entries.collect::<Result<Vec<_>, _>>());
    let mut entries: Vec<PathBuf> = match entries {
        Ok(entries) => entries.into_iter().map(|entry| entry.path()).collect(),
        Err(source) => return errors.push(ManifestError::Unreadable { path: folder.to_owned(), source }),
    };
    entries.sort();
    for entry in entries {
        // A mounted ConfigMap keeps its data twice: `..data` and links to it.
        if entry.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"..")) {
            continue;
        }
        if entry.is_dir() {
            if depth < MAX_DEPTH {
                walk(&entry, depth + 1, files, errors);
            }
        } else if entry.extension().is_some_and(|extension| {
            ["yaml", "yml", "json"].iter().any(|known| extension.eq_ignore_ascii_case(known))
        }) {
            files.push(entry);
        }
    }
}

fn read_text(path: &Path, text: &str, into: &mut Reading<'_>) {
    let json = path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("json"));
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    if json {
        read_json(path, text, into);
    } else {
        read_yaml(path, text, into);
    }
}

fn read_json(path: &Path, text: &str, into: &mut Reading<'_>) {
    let mut at = 0;
    for (index, value) in serde_json::Deserializer::from_str(text).into_iter::<&RawValue>().enumerate() {
        let refused = match value.map(RawValue::get) {
            Ok(document) => read_document(path, index + 1, document, into).err(),
            Err(error) => Some(error),
        };
        if let Some(error) = refused {
            into.manifests.errors.push(ManifestError::Syntax {
                path: path.to_owned(),
                document: index + 1,
                line: error.line() as u64,
                why: error.to_string(),
            });
            return;
        }
        at = index + 1;
    }
    if at == 0 {
        tracing::debug!(path = %path.display(), "manifest is empty");
    }
}

/// A list as `kubectl get -o json` prints it: its items stay text until their turn comes, for those of a large
/// cluster would fill memory as values.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct JsonList<'a> {
    api_version: String,
    kind: String,
    #[serde(borrow)]
    items: Vec<&'a RawValue>,
}

fn read_document(
    path: &Path,
    document: usize,
    text: &str,
    into: &mut Reading<'_>,
) -> Result<(), serde_json::Error> {
    // Whatever is no list of this shape is looked at as a whole, and refused by what is wrong with it.
    let Ok(JsonList { api_version, kind, items }) = serde_json::from_str(text) else {
        take(path, document, serde_json::from_str(text)?, into);
        return Ok(());
    };
    for item in items {
        let mut item = serde_json::from_str(item.get())?;
        complete(&mut item, &api_version, &kind);
        take(path, document, item, into);
    }
    Ok(())
}

fn read_yaml(path: &Path, text: &str, into: &mut Reading<'_>) {
    for (index, Document { first_line, text }) in split(text).into_iter().enumerate() {
        match serde_saphyr::from_str_with_options::<Option<Value>>(text, yaml_options()) {
            Ok(None) => {}
            Ok(Some(value)) => take(path, index + 1, value, into),
            Err(error) => into.manifests.errors.push(ManifestError::Syntax {
                path: path.to_owned(),
                document: index + 1,
                line: first_line + error.location().map_or(0, |location| location.line().saturating_sub(1)),
                why: without_place(&error.without_snippet().to_string()),
            }),
        }
    }
}

/// A dump of a large cluster is one document of millions of nodes; the other limits (aliases, depth) stay.
fn yaml_options() -> serde_saphyr::Options {
    serde_saphyr::options! {
        budget: serde_saphyr::budget! {
            max_events: usize::MAX,
            max_nodes: usize::MAX,
            max_total_scalar_bytes: usize::MAX,
        },
    }
}

/// The parser's message on one line, without its own place: that counts from the document, not the file.
fn without_place(text: &str) -> String {
    let line = text.lines().next().unwrap_or_default();
    line.rsplit_once(" at line ").map_or(line, |(message, _)| message).to_owned()
}

struct Document<'a> {
    first_line: u64,
    text: &'a str,
}

/// The documents of a stream; those of blanks and comments only are none.
fn split(text: &str) -> Vec<Document<'_>> {
    let mut documents = Vec::new();
    let mut start = 0;
    let mut first_line = 1;
    let mut at = 0;
    let mut push = |from: usize, to: usize, first_line: u64| {
        let text = text.get(from..to).unwrap_or_default();
        let content = |line: &str| !line.trim().is_empty() && !line.trim_start().starts_with('#');
        if text.lines().any(content) {
            documents.push(Document { first_line, text });
        }
    };
    for (number, line) in (1..).zip(text.split_inclusive('\n')) {
        let next = at + line.len();
        let bare = line.trim_end();
        if bare == "---" || bare == "..." {
            push(start, at, first_line);
            (start, first_line) = (next, number + 1);
        } else if line.starts_with("--- ") || line.starts_with("---\t") {
            // Content may follow the marker on its line; what is before it is another document.
            push(start, at, first_line);
            (start, first_line) = (at + 4, number);
        }
        at = next;
    }
    push(start, text.len(), first_line);
    documents
}

/// Takes in one object, or all objects of a list.
fn take(path: &Path, document: usize, value: Value, into: &mut Reading<'_>) {
    let mut refuse = |object: String, why: String| {
        into.manifests.errors.push(ManifestError::Field { path: path.to_owned(), document, object, why });
    };
    let Value::Object(mut members) = value else {
        return refuse("object".to_owned(), "expected a Kubernetes object".to_owned());
    };
    let (Some(api_version), Some(kind)) = (text_of(&members, "apiVersion"), text_of(&members, "kind")) else {
        let missing = if members.contains_key("kind") { "apiVersion" } else { "kind" };
        return refuse(Describe(None, &members).to_string(), format!("{missing}: missing or no text"));
    };
    match members.remove("items") {
        Some(Value::Array(items)) => {
            for mut item in items {
                complete(&mut item, &api_version, &kind);
                take(path, document, item, into);
            }
        }
        Some(_) => refuse(kind, "items: expected a list".to_owned()),
        None => {
            let object = Describe(Some(&kind), &members).to_string();
            match wire::template(&api_version, &kind, &members) {
                Ok(None) => {}
                Ok(Some(pod)) => return into.manifests.templates.push(pod),
                Err(error) => return refuse(object, error.to_string()),
            }
            match wire::decode(&api_version, &kind, Value::Object(members)) {
                Ok(Some(object)) => {
                    into.manifests.used += 1;
                    (into.object)(object);
                }
                Ok(None) => into.manifests.ignored += 1,
                Err(error) => refuse(object, error.to_string()),
            }
        }
    }
}

/// Has an item of a list say its kind and version. What kubectl prints is a `List` of whole objects; what the
/// API answers is a `PodList` whose items say neither.
fn complete(item: &mut Value, api_version: &str, list_kind: &str) {
    let kind = list_kind.strip_suffix("List").filter(|kind| !kind.is_empty());
    if let (Some(kind), Value::Object(members)) = (kind, item) {
        members.entry("kind").or_insert_with(|| kind.into());
        members.entry("apiVersion").or_insert_with(|| api_version.into());
    }
}

fn text_of(members: &Map<String, Value>, key: &str) -> Option<String> {
    members.get(key)?.as_str().map(str::to_owned)
}

/// Kind, namespace and name of an object that may be broken.
struct Describe<'a>(Option<&'a str>, &'a Map<String, Value>);

impl fmt::Display for Describe<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(kind, members) = self;
        f.write_str(kind.unwrap_or("object"))?;
        let metadata = members.get("metadata");
        let text = |key| metadata.and_then(|metadata| metadata.get(key)).and_then(Value::as_str);
        match (text("namespace"), text("name")) {
            (Some(namespace), Some(name)) => write!(f, " {namespace}/{name}"),
            (None, Some(name)) => write!(f, " {name}"),
            (_, None) => f.write_str(" without a name"),
        }
    }
}

/// Keeps the store at what the files hold, as they change.
pub struct ManifestSource {
    paths: Vec<PathBuf>,
    store: SharedStore,
    on_load: Box<dyn Fn(&Manifests) + Send + Sync>,
}

impl ManifestSource {
    /// How often the files are looked at for changes.
    const EVERY: Duration = Duration::from_secs(2);

    /// A source that fills `store` from `paths` and tells `on_load` of every load.
    #[must_use]
    pub fn new(
        paths: Vec<PathBuf>,
        store: SharedStore,
        on_load: impl Fn(&Manifests) + Send + Sync + 'static,
    ) -> Self {
        store.write().await_source();
        Self { paths, store, on_load: Box::new(on_load) }
    }

    /// Loads, and loads again whenever a file changes, until cancelled.
    ///
    /// # Errors
    ///
    /// None of the paths can be read at the start: that is a slip in the configuration.
    pub async fn run(self, cancel: CancellationToken, ready: BlockReady) -> Result<(), ManifestError> {
        for path in &self.paths {
            fs::metadata(path).map_err(|source| ManifestError::Unreadable { path: path.clone(), source })?;
        }
        let mut seen = self.load();
        drop(ready);
        loop {
            tokio::select! {
                () = cancel.cancelled() => return Ok(()),
                () = tokio::time::sleep(Self::EVERY) => {}
            }
            let now = fingerprint(&self.paths);
            if now != seen {
                seen = self.load();
            }
        }
    }

    fn load(&self) -> Fingerprint {
        // Taken before reading: a change in between is seen next time.
        let fingerprint = fingerprint(&self.paths);
        let mut fresh = Store::default();
        let manifests = read_into(&self.paths, &mut |object| fresh.apply(object));
        (self.on_load)(&manifests);
        self.store.write().replace(fresh);
        for (sources, account) in self.store.read().unknown_expected_accounts() {
            tracing::warn!(%sources, %account, "ExpectedSources names a service account that is not there");
        }
        fingerprint
    }
}

type Fingerprint = Vec<(PathBuf, Option<SystemTime>, u64)>;

fn fingerprint(paths: &[PathBuf]) -> Fingerprint {
    list(paths, &mut Vec::new())
        .into_iter()
        .map(|path| match fs::metadata(&path) {
            Ok(metadata) => (path, metadata.modified().ok(), metadata.len()),
            Err(_gone) => (path, None, 0),
        })
        .collect()
}

#[cfg(test)]
mod tests;
