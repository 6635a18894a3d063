//! Owns the web page at `/`: one document with its style and script, and the policy that holds it to itself.
//!
//! It holds no data, so everybody may have it: what it shows it asks of the API, as whoever reads it.

use hyper::{
    StatusCode,
    header::{CONTENT_SECURITY_POLICY, HeaderName, HeaderValue, REFERRER_POLICY},
};
use tokio_rustls::rustls::crypto::ring;

use super::reply::{Reply, text, typed};

const DOCUMENT: &str = include_str!("page/index.html");
const STYLE: &str = include_str!("page/style.css");
const SCRIPT: &str = include_str!("page/script.js");

/// The page, with a nonce of its own.
pub(super) fn page() -> Reply {
    let mut random = [0; 16];
    if ring::default_provider().secure_random.fill(&mut random).is_err() {
        return text(StatusCode::INTERNAL_SERVER_ERROR, "no random numbers are to be had\n");
    }
    let nonce: String = random.iter().map(|byte| format!("{byte:02x}")).collect();
    let document = DOCUMENT.replace("{nonce}", &nonce).replace("{style}", STYLE).replace("{script}", SCRIPT);
    let mut reply = typed(StatusCode::OK, "text/html; charset=utf-8", document);
    // Nothing from elsewhere and nowhere to send to; no name of the cluster can become a script.
    let policy = format!(
        "default-src 'none'; script-src 'nonce-{nonce}'; style-src 'nonce-{nonce}'; connect-src 'self'; \
         base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    );
    let headers = reply.headers_mut();
    if let Ok(policy) = HeaderValue::from_str(&policy) {
        headers.insert(CONTENT_SECURITY_POLICY, policy);
    }
    headers.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    headers.insert(HeaderName::from_static("x-frame-options"), HeaderValue::from_static("DENY"));
    headers.insert(
        HeaderName::from_static("cross-origin-opener-policy"),
        HeaderValue::from_static("same-origin"),
    );
    reply
}
