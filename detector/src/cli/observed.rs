//! Owns the asking of daemons and of Prometheus for what they saw.

use std::time::Duration;

use anyhow::{Context as _, Result};
use hyper::Uri;

use super::{block_on, http::Http};
use crate::{
    admin::client::Client,
    args::SeenArgs,
    flows::Timestamp,
    migration::Observation,
    outputs::observed::{self, prometheus},
};

/// What was seen in the last `quiet`.
pub(super) fn observe(seen: &SeenArgs, now: Timestamp, quiet: Duration) -> Result<Observation> {
    let SeenArgs { admin, how, prometheus: url, prometheus_token_file } = seen;
    let token = prometheus_token_file
        .as_ref()
        .map(|path| {
            let read = std::fs::read_to_string(path);
            read.with_context(|| format!("read {}", path.display())).map(|token| token.trim().to_owned())
        })
        .transpose()?;
    let mut observation = Observation::default();
    for admin in admin {
        let asked = Client::new(*admin, how).map_err(Into::into);
        asked
            .and_then(|client| daemon(&client, &mut observation))
            .with_context(|| format!("ask the daemon at {admin}"))?;
    }
    if let Some(url) = url {
        let asked = block_on(by_metrics(url, token.as_deref(), now, quiet))?;
        let (source, calls) = asked.with_context(|| format!("ask Prometheus at {url}"))?;
        observation.sources.push(source);
        observation.calls.extend(calls);
    }
    Ok(observation)
}

fn daemon(client: &Client, into: &mut Observation) -> Result<()> {
    let get = |path: &str| client.get(path).with_context(|| path.to_owned());
    let (node, coverage) = (get("/api/v1/node")?, get("/api/v1/coverage")?);
    let metrics = get("/metrics")?;
    into.sources.push(observed::daemon(node.as_bytes(), coverage.as_bytes(), &metrics)?);
    let mut after = 0;
    loop {
        let page = observed::flows(get(&format!("/api/v1/flows?after={after}"))?.as_bytes())?;
        into.calls.extend(page.calls);
        match page.next {
            Some(next) if next > after => after = next,
            _ => return Ok(()),
        }
    }
}

async fn by_metrics(
    url: &Uri,
    token: Option<&str>,
    now: Timestamp,
    quiet: Duration,
) -> Result<(crate::migration::Source, Vec<crate::migration::Call>)> {
    let http = Http::new()?;
    let at = now.0 / 1_000_000_000;
    let base = url.to_string();
    let base = base.trim_end_matches('/');
    let ask = async |query: &prometheus::Query| {
        let expression = encoded(&query.expression);
        let uri = match query.step {
            None => format!("{base}/api/v1/query?query={expression}&time={at}"),
            Some(step) => {
                let start = at.saturating_sub(quiet.as_secs());
                format!("{base}/api/v1/query_range?query={expression}&start={start}&end={at}&step={step}")
            }
        };
        http.get(&uri.parse().context("make the query")?, token).await
    };
    let [edges, last, gaps, up] = prometheus::queries(quiet);
    let answers = [ask(&edges).await?, ask(&last).await?, ask(&gaps).await?, ask(&up).await?];
    let [edges, last, gaps, up] = &answers;
    Ok(prometheus::read([edges, last, gaps, up], now, quiet)?)
}

/// Text as a value in a query, RFC 3986.
fn encoded(text: &str) -> String {
    let mut out = String::with_capacity(text.len() * 2);
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::encoded;

    #[test]
    fn a_query_is_encoded_whole() {
        assert_eq!(
            encoded("sum(a{b=\"c\"}) > 0 + ü"),
            "sum%28a%7Bb%3D%22c%22%7D%29%20%3E%200%20%2B%20%C3%BC"
        );
    }
}
