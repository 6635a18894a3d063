//! The admin port with TLS and with clients that authenticate: the real daemon, curl and the command line.
#![expect(clippy::unwrap_used, reason = "a test panics on what it does not expect")]

use std::{
    fs,
    net::TcpStream,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    time::Duration,
};

use detector_tests::{
    clients,
    daemon::{self, ADMIN, Daemon},
    netns,
    node::Node,
    wait,
};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};

/// Until a change of a file has its effect, and for a start.
const WORD: Duration = Duration::from_secs(60);

const TOKEN: &str = "a-token-for-the-admin-port";

/// An authority that issues certificates into files.
struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        // Another name than those that it issues have, or OpenSSL takes them for self-signed.
        params.distinguished_name.push(DnType::CommonName, "authority");
        let key = KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        Self { issuer: Issuer::new(params, key), pem }
    }

    /// Writes `ca.pem`, `tls.crt` and `tls.key` into a new folder.
    fn issue(&self, folder: PathBuf) -> PathBuf {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        fs::create_dir(&folder).unwrap();
        fs::write(folder.join("ca.pem"), &self.pem).unwrap();
        fs::write(folder.join("tls.crt"), certificate.pem()).unwrap();
        fs::write(folder.join("tls.key"), key.serialize_pem()).unwrap();
        folder
    }
}

/// What curl gets: the status, 0 where there is no connection.
fn status(node: &Node, path: &str, options: &[&str]) -> u16 {
    let mut command = node.netns().command("curl");
    command.args(["--silent", "--noproxy", "*", "--max-time", "20", "--output", "/dev/null"]);
    command.args(["--write-out", "%{http_code}"]).args(options).arg(format!("https://{ADMIN}{path}"));
    let output = command.output().unwrap();
    String::from_utf8(output.stdout).unwrap().trim().parse().unwrap()
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

struct Port {
    node: Node,
    folder: tempfile::TempDir,
    server: Authority,
    clients: Authority,
    /// As the kubelet mounts a secret: a link to the folder that holds now.
    secret: PathBuf,
}

impl Port {
    fn new() -> Self {
        let node = Node::new().unwrap();
        let folder = tempfile::tempdir().unwrap();
        let (server, clients) = (Authority::new(), Authority::new());
        let first = server.issue(folder.path().join("first"));
        let secret = folder.path().join("secret");
        symlink(&first, &secret).unwrap();
        fs::create_dir(folder.path().join("manifests")).unwrap();
        node.manifests(&folder.path().join("manifests"), "").unwrap();
        fs::write(folder.path().join("clients.pem"), &clients.pem).unwrap();
        fs::write(folder.path().join("token"), TOKEN).unwrap();
        Self { node, folder, server, clients, secret }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Starts a daemon with TLS and waits until it answers over it.
    fn daemon(&self, flags: &[(&str, PathBuf)]) -> Daemon<'_> {
        let mut arguments = Daemon::arguments(&self.path("manifests"));
        let pair = [
            ("--admin-tls-cert", self.secret.join("tls.crt")),
            ("--admin-tls-key", self.secret.join("tls.key")),
        ];
        for (flag, path) in pair.iter().chain(flags) {
            arguments.extend([(*flag).into(), path.clone().into_os_string()]);
        }
        let daemon = Daemon::spawn(&self.node, &daemon::binary().unwrap(), &arguments, None).unwrap();
        let ca = self.secret.join("ca.pem");
        wait::until("readiness over TLS", WORD, || {
            Ok((status(&self.node, "/readyz", &["--cacert", text(&ca)]) == 200).then_some(()))
        })
        .unwrap_or_else(|error| panic!("{error:#}\n{}", daemon.output()));
        daemon
    }

    /// `plainsight coverage` with flags: whether it succeeds, and all that it says.
    fn coverage(&self, flags: &[(&str, &Path)]) -> (bool, String) {
        let (code, said) = self.ask("coverage", flags);
        (code == Some(0), said)
    }

    /// A subcommand that asks the daemon: its exit status, and all that it says.
    fn ask(&self, subcommand: &str, flags: &[(&str, &Path)]) -> (Option<i32>, String) {
        let mut command = self.node.netns().command(daemon::binary().unwrap());
        command.arg(subcommand).args(["--admin", &ADMIN.to_string()]);
        for (flag, path) in flags {
            command.arg(flag).arg(path);
        }
        let output = command.output().unwrap();
        let text = [output.stdout, output.stderr].concat();
        (output.status.code(), String::from_utf8(text).unwrap())
    }
}

#[test]
fn a_certificate_that_is_swapped_is_served_without_a_restart() {
    if !netns::require_root() {
        return;
    }
    let port = Port::new();
    let daemon = port.daemon(&[]);
    let old = port.path("first/ca.pem");

    // In clear there is nothing to be had, and a client that says nothing keeps nobody out.
    let plain = clients::curl_from_node(&port.node, &format!("http://{ADMIN}/healthz"), &[]).unwrap();
    assert!(plain.succeed(WORD).is_err());
    let connect = || port.node.netns().run(|| Ok(TcpStream::connect_timeout(&ADMIN, WORD)?)).unwrap();
    let _silent: Vec<TcpStream> = (0..4).map(|_| connect()).collect();
    assert_eq!(status(&port.node, "/healthz", &["--cacert", text(&old)]), 200);

    // Without client authentication, those on the node may read, and nobody may change.
    let (success, said) = port.coverage(&[("--admin-ca", &old)]);
    assert!(success && said.starts_with("ready\n"), "{said}");
    assert!(!port.coverage(&[]).0);
    let put = ["--cacert", text(&old), "--request", "PUT", "--data", "debug"];
    assert_eq!(status(&port.node, "/api/v1/log-filter", &put), 403);

    // Half a pair is no pair: the old one serves on.
    let swap = |to: &Path| {
        symlink(to, port.path("next")).unwrap();
        fs::rename(port.path("next"), &port.secret).unwrap();
    };
    let other = Authority::new();
    let broken = other.issue(port.path("broken"));
    fs::copy(port.path("first/tls.key"), broken.join("tls.key")).unwrap();
    swap(&broken);
    wait::until("word of the broken pair", WORD, || {
        Ok(daemon.output().contains("the former certificate serves on").then_some(()))
    })
    .unwrap();
    assert_eq!(status(&port.node, "/healthz", &["--cacert", text(&old)]), 200);

    let second = other.issue(port.path("second"));
    swap(&second);
    wait::until("the new certificate", WORD, || {
        Ok((status(&port.node, "/healthz", &["--cacert", text(&second.join("ca.pem"))]) == 200).then_some(()))
    })
    .unwrap();
    assert_eq!(status(&port.node, "/healthz", &["--cacert", text(&old)]), 0);
    drop(port.server.issue(port.path("unused")));
    daemon.stop().unwrap();
}

#[test]
fn clients_authenticate_by_certificate_or_token_and_probes_by_nothing() {
    if !netns::require_root() {
        return;
    }
    let port = Port::new();
    let daemon = port.daemon(&[
        ("--admin-client-ca", port.path("clients.pem")),
        ("--admin-token-file", port.path("token")),
        ("--log-filter-file", port.path("filter")),
    ]);
    let ca = port.secret.join("ca.pem");
    let known = port.clients.issue(port.path("known"));
    let stranger = Authority::new().issue(port.path("stranger"));
    let ask =
        |path: &str, more: &[&str]| status(&port.node, path, &[&["--cacert", text(&ca)], more].concat());
    let (certificate, key) = (known.join("tls.crt"), known.join("tls.key"));
    let shown = ["--cert", text(&certificate), "--key", text(&key)];
    let bearer = format!("Authorization: Bearer {TOKEN}");

    for path in ["/healthz", "/readyz"] {
        assert_eq!(ask(path, &[]), 200, "{path}");
    }
    for path in ["/metrics", "/api/v1/flows", "/api/v1/log-filter", "/api/v1/nothing"] {
        assert_eq!(ask(path, &[]), 401, "{path}");
        assert_eq!(ask(path, &["--header", "Authorization: Bearer a-token-of-somebody-else"]), 401, "{path}");
        let expected = if path.ends_with("nothing") { 404 } else { 200 };
        assert_eq!(ask(path, &shown), expected, "{path}");
        assert_eq!(ask(path, &["--header", &bearer]), expected, "{path}");
    }
    let (certificate, key) = (stranger.join("tls.crt"), stranger.join("tls.key"));
    assert_eq!(ask("/healthz", &["--cert", text(&certificate), "--key", text(&key)]), 0);

    // The command line does either.
    let pair =
        [("--admin-client-cert", known.join("tls.crt")), ("--admin-client-key", known.join("tls.key"))];
    let by_certificate: Vec<_> = pair.iter().map(|(flag, path)| (*flag, path.as_path())).collect();
    let (token, authority) = (port.path("token"), ("--admin-ca", ca.as_path()));
    for flags in [by_certificate, vec![("--admin-token-file", token.as_path())]] {
        let (success, said) = port.coverage(&[&[authority], &flags[..]].concat());
        assert!(success && said.starts_with("ready\n"), "{said}");
    }
    // So do those that ask for what was seen.
    fs::write(port.path("declared.yaml"), "apiVersion: v1\nkind: Namespace\nmetadata: {name: tools}\n")
        .unwrap();
    let (declared, cert, key) = (port.path("declared.yaml"), known.join("tls.crt"), known.join("tls.key"));
    let declared = ("--manifests", declared.as_path());
    let by_certificate = [("--admin-client-cert", cert.as_path()), ("--admin-client-key", key.as_path())];
    for subcommand in ["readiness", "audit"] {
        for how in [&by_certificate[..], &[("--admin-token-file", token.as_path())]] {
            let (code, said) = port.ask(subcommand, &[&[declared, authority], how].concat());
            assert!(matches!(code, Some(0 | 2)) && !said.contains("error"), "{subcommand}: {code:?} {said}");
        }
        for (how, words) in [(&[declared, authority][..], "401"), (&[declared], "--admin-ca")] {
            let (code, said) = port.ask(subcommand, how);
            assert!(code == Some(1) && said.contains(words), "{subcommand}: {code:?} {said}");
        }
    }
    // Without either it gets the word that a probe gets.
    assert_eq!(port.coverage(&[authority]), (true, "ready\n".to_owned()));

    // The log filter, by request and by file.
    let put = |filter: &str| {
        ask("/api/v1/log-filter", &["--header", &bearer, "--request", "PUT", "--data", filter])
    };
    assert!(!daemon.output().contains(" DEBUG "), "{}", daemon.output());
    assert_eq!(put("detector=loud"), 400);
    assert_eq!(put("detector::admin=debug,info"), 200);
    let debug = || daemon.output().matches(" DEBUG detector::admin").count();
    wait::until("a debug line", WORD, || {
        let _refused = ask("/healthz", &["--tls-max", "1.1", "--tlsv1.0"]);
        let _plain = clients::curl_from_node(&port.node, &format!("http://{ADMIN}/"), &[])?.wait(WORD)?;
        Ok((debug() > 0).then_some(()))
    })
    .unwrap();
    fs::write(port.path("filter"), "warn\n").unwrap();
    let current = || {
        let url = format!("https://{ADMIN}/api/v1/log-filter");
        let curl = clients::curl_from_node(&port.node, &url, &["--cacert", text(&ca), "--header", &bearer])?;
        curl.succeed(WORD)
    };
    wait::until("the file's filter", WORD, || Ok((current()?.trim() == "warn").then_some(()))).unwrap();
    fs::remove_file(port.path("filter")).unwrap();
    wait::until("the command line's filter", WORD, || Ok((current()?.trim() == "info").then_some(())))
        .unwrap();
    let output = daemon.stop().unwrap();
    assert!(!output.contains(TOKEN), "{output}");
}

/// What curl gets for one method on many paths.
fn statuses(node: &Node, method: &str, paths: &[String], options: &[&str]) -> Vec<u16> {
    let mut command = node.netns().command("curl");
    command.args(["--silent", "--noproxy", "*", "--max-time", "60", "--write-out", "%{http_code}\n"]);
    command.args(["--request", method, "--data", "trace"]).args(options);
    for path in paths {
        command.args(["--output", "/dev/null", &format!("https://{ADMIN}{path}")]);
    }
    let output = command.output().unwrap();
    String::from_utf8(output.stdout).unwrap().lines().map(|line| line.parse().unwrap()).collect()
}

#[test]
fn whoever_does_not_authenticate_changes_nothing_by_any_method_on_any_path() {
    if !netns::require_root() {
        return;
    }
    let port = Port::new();
    let flags = [("--admin-token-file", port.path("token")), ("--admin-client-ca", port.path("clients.pem"))];
    let daemon = port.daemon(&flags);
    let ca = port.secret.join("ca.pem");
    let ca = text(&ca);
    let right = format!("Authorization: Bearer {TOKEN}");
    let filter = || {
        let url = format!("https://{ADMIN}/api/v1/log-filter");
        let curl = clients::curl_from_node(&port.node, &url, &["--cacert", ca, "--header", &right]);
        curl.unwrap().succeed(WORD).unwrap().trim().to_owned()
    };
    assert_eq!(filter(), "info");
    let mut paths = detector::admin::paths();
    assert!(paths.len() >= 9 && paths.contains(&"/api/v1/log-filter".to_owned()), "{paths:?}");
    paths.extend(["/nothing", "/api/v1/nothing", "/api/v2/log-filter"].map(str::to_owned));
    let wrong: [&[&str]; 4] = [
        &[],
        &["--header", "Authorization: Bearer a-token-of-somebody-else"],
        &["--header", "Authorization: Bearer"],
        &["--header", "X-HTTP-Method-Override: PUT"],
    ];
    for method in
        ["POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "MKCOL", "MOVE", "COPY", "LOCK", "BREW", "GET"]
    {
        for options in wrong {
            let all = statuses(&port.node, method, &paths, &[&["--cacert", ca], options].concat());
            assert_eq!(all.len(), paths.len(), "{method} {options:?}");
            for (path, status) in paths.iter().zip(all) {
                // What is open to everybody tells how to ask, and nothing of the rest is even told to be there.
                let open = ["/", "/healthz", "/readyz"].contains(&path.as_str()) && method == "GET";
                let refused = [400, 401, 404, 405].contains(&status);
                assert!(refused || open && status == 200, "{method} {path} {options:?}: {status}");
                if path.starts_with("/api/") {
                    assert_eq!(status, 401, "{method} {path} {options:?}");
                }
            }
        }
    }
    assert_eq!(filter(), "info");
    // Whoever authenticates may, so it is not that nobody can.
    let put = ["--cacert", ca, "--header", &right, "--request", "PUT", "--data", "warn"];
    assert_eq!(status(&port.node, "/api/v1/log-filter", &put), 200);
    assert_eq!(filter(), "warn");
    daemon.stop().unwrap();
}
