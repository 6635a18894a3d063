//! Owns where declared objects come from: files, or the cluster as it is now.

use anyhow::{Context as _, Result, bail};

use crate::{
    args::DeclaredArgs,
    cluster::{
        self, Store,
        kubernetes::{Access, Snapshot},
        objects::{Object, Pod},
    },
};

/// What is declared.
pub(super) struct Declared {
    /// Objects, each pod with the workload that runs it.
    pub(super) objects: Vec<Object>,
    /// What workloads would run.
    pub(super) templates: Vec<Pod>,
    /// How many objects could not be read; each was said on standard error.
    pub(super) errors: usize,
}

/// Reads what is declared.
pub(super) fn read(source: &DeclaredArgs) -> Result<Declared> {
    let DeclaredArgs { manifests, kubeconfig, context } = source;
    if !manifests.is_empty() {
        if kubeconfig.is_some() || context.is_some() {
            bail!("--kubeconfig and --context do not go with --manifests");
        }
        let read = cluster::read(manifests);
        for error in &read.errors {
            eprintln!("error: {:#}", Chain(error));
        }
        if read.objects.is_empty() && read.templates.is_empty() {
            bail!("nothing that could be used is in the manifests");
        }
        let errors = read.errors.len();
        return Ok(Declared { objects: owned(read.objects), templates: read.templates, errors });
    }
    let in_cluster = std::env::var_os("KUBERNETES_SERVICE_HOST").is_some();
    let access = if in_cluster && kubeconfig.is_none() && context.is_none() {
        Access::InCluster
    } else {
        Access::Kubeconfig { path: kubeconfig.clone(), context: context.clone() }
    };
    let Snapshot { objects, errors } =
        super::block_on(cluster::kubernetes::snapshot(access))?.context("read the cluster")?;
    for error in &errors {
        eprintln!("error: {error}");
    }
    Ok(Declared { objects: owned(objects), templates: Vec::new(), errors: errors.len() })
}

/// Gives pods the workloads that their owners tell.
fn owned(objects: Vec<Object>) -> Vec<Object> {
    let mut store = Store::default();
    let mut rest = Vec::new();
    for object in objects {
        match object {
            Object::Pod(_) | Object::Owner(_) => store.apply(object),
            other => rest.push(other),
        }
    }
    rest.extend(store.pods().map(|pod| Object::Pod((**pod).clone())));
    rest
}

/// An error with its causes on one line.
struct Chain<'a>(&'a dyn std::error::Error);

impl std::fmt::Display for Chain<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.0)?;
        let mut cause = self.0.source();
        while let Some(error) = cause {
            write!(f, ": {error}")?;
            cause = error.source();
        }
        Ok(())
    }
}
