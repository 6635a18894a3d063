//! Owns the rows of whole connections over a veth pair, with the detector attached and without.
//!
//! Both sides share one CPU, so that all that a packet costs shows in the rate, and the rate is taken by their
//! CPU time, so that what other programs take does not. Each round runs all ways, the first one in turn; one is
//! with an empty program in the detector's place, for what the hook alone costs.

use std::time::Duration;

use anyhow::{Context as _, Result};
use detector::{
    config::Config,
    datapath::{Datapath, DatapathConfig, HookChoice},
};
use nix::net::if_::if_nametoindex;

use crate::{
    Effort,
    machine::Pinned,
    payloads,
    report::{Bar, Row, Unit},
    stats::Figure,
    subject,
    traffic::{Pair, Rate, Talk},
};

/// The detector's kernel half with its defaults.
pub(crate) fn datapath() -> Result<Datapath> {
    let Config { max_flows, max_edges, sample_one_in, budget_ns_per_ms, scan_window, flow_idle, .. } =
        subject::defaults()?;
    let config = DatapathConfig {
        max_flows,
        max_edges,
        sample_one_in: sample_one_in.get(),
        budget_ns_per_ms,
        scan_window,
        idle: flow_idle,
        statistics: false,
        hooks: HookChoice::Best,
    };
    Datapath::load(&config).context("load the detector")
}

/// Attaches to both pods, or lets go of them.
pub(crate) fn attach(pair: &Pair, datapath: &Datapath, wanted: bool) -> Result<()> {
    pair.node.netns().run(|| {
        for pod in [&pair.client, &pair.server] {
            let name = pod.plan().interface();
            let ifindex = if_nametoindex(name.as_str()).with_context(|| format!("find {name}"))?;
            if wanted {
                datapath.attach(ifindex, &name)?;
            } else {
                datapath.detach(ifindex);
            }
        }
        Ok(())
    })
}

/// A TLS connection that is settled after its greeting.
pub(crate) fn tls() -> Result<Talk> {
    Ok(Talk {
        greeting: (payloads::client_hellos()?.short, payloads::server_hello()),
        request: payloads::record(64),
        response: payloads::record(64),
    })
}

/// A connection of plain HTTP.
pub(crate) fn http() -> Talk {
    Talk {
        greeting: (Vec::new(), Vec::new()),
        request: payloads::http_request(),
        response: payloads::http_response(),
    }
}

pub(crate) fn rates(effort: Effort) -> Result<Vec<Row>> {
    let _pinned = Pinned::new()?;
    let pair = Pair::new()?;
    let datapath = datapath()?;
    let (tls, http) = (tls()?, http());
    let bulk = Talk { request: payloads::record(u16::MAX), ..tls.clone() };
    pair.serve_talk(1, &tls)?;
    pair.serve_talk(2, &http)?;
    pair.serve_once(3, tls.greeting.0.len(), tls.greeting.1.clone())?;
    pair.serve_once(4, http.request.len(), http.response.clone())?;
    pair.serve_sink(5)?;

    let compare = |what: &str, run: &dyn Fn(Duration) -> Result<Rate>| {
        eprintln!("    {what}");
        compare(&pair, &datapath, effort, run)
    };
    let row = |id: &str, what: &str, rounds: &[Round]| {
        Row::new(id, what, against(rounds, |round| round.detector.cpu), Unit::Ratio)
            .beside("by the wall clock", Round::wall(rounds), Unit::Ratio)
            .beside("empty program", against(rounds, |round| round.empty.cpu).value, Unit::Ratio)
    };
    let rates = |row: Row, rounds: &[Round], least: f64| {
        let median = |pick: fn(&Round) -> f64| Figure::of(rounds.iter().map(pick)).value;
        row.bar(Bar::AtLeast(least))
            .beside("with", median(|round| round.detector.cpu), Unit::PerSecond)
            .beside("without", median(|round| round.without.cpu), Unit::PerSecond)
    };

    let mut rows = Vec::new();
    let rounds = compare("request/response, settled TLS", &|lasting| pair.exchanges(1, &tls, lasting))?;
    let what = "request/response rate, settled TLS, against without";
    rows.push(rates(row("rr-tls", what, &rounds), &rounds, 0.99));
    let rounds = compare("request/response, plaintext HTTP", &|lasting| pair.exchanges(2, &http, lasting))?;
    let what = "request/response rate, plaintext HTTP only, against without";
    rows.push(rates(row("rr-http", what, &rounds), &rounds, 0.97));
    let rounds = compare("connections, TLS", &|lasting| pair.connections(3, &tls.greeting.0, lasting))?;
    let what = "connect/request/response/close rate, TLS, against without";
    rows.push(rates(row("crr-tls", what, &rounds), &rounds, 0.97));
    let rounds =
        compare("connections, plaintext HTTP", &|lasting| pair.connections(4, &http.request, lasting))?;
    let what = "connect/request/response/close rate, plaintext HTTP, against without";
    rows.push(rates(row("crr-http", what, &rounds), &rounds, 0.97));

    let rounds = compare("bulk, TLS", &|lasting| pair.bulk(5, &bulk, lasting))?;
    let gigabits = |pick: fn(&Round) -> f64| Figure::of(rounds.iter().map(pick)).value * 8.0 / 1e9;
    let what = "bulk throughput, settled TLS, against without";
    rows.push(
        row("bulk", what, &rounds)
            .beside("with", gigabits(|round| round.detector.cpu), Unit::GigabitsPerSecond)
            .beside("without", gigabits(|round| round.without.cpu), Unit::GigabitsPerSecond),
    );
    Ok(rows)
}

/// What is attached.
#[derive(Clone, Copy)]
enum Attached {
    Nothing,
    Empty,
    Detector,
}

/// The rates of one round.
#[derive(Clone, Copy, Default)]
struct Round {
    without: Rate,
    empty: Rate,
    detector: Rate,
}

impl Round {
    fn wall(rounds: &[Self]) -> f64 {
        Figure::of(rounds.iter().map(|round| round.detector.wall / round.without.wall)).value
    }
}

/// A rate against that without anything attached, round by round.
fn against(rounds: &[Round], pick: fn(&Round) -> f64) -> Figure {
    Figure::of(rounds.iter().map(|round| pick(round) / round.without.cpu))
}

fn compare(
    pair: &Pair,
    datapath: &Datapath,
    effort: Effort,
    run: &dyn Fn(Duration) -> Result<Rate>,
) -> Result<Vec<Round>> {
    let lasting = Duration::from_millis(effort.pick(100, 250));
    let one = |attached| -> Result<Rate> {
        match attached {
            Attached::Nothing => run(lasting),
            Attached::Empty => {
                let _attached = subject::attach_empty(pair)?;
                run(lasting)
            }
            Attached::Detector => {
                attach(pair, datapath, true)?;
                let rate = run(lasting);
                attach(pair, datapath, false)?;
                rate
            }
        }
    };
    let mut rounds = Vec::new();
    for number in 0..effort.pick(8, 60) {
        let mut round = Round::default();
        let mut order = [Attached::Nothing, Attached::Empty, Attached::Detector];
        order.rotate_left(number % 3);
        for attached in order {
            let rate = one(attached)?;
            match attached {
                Attached::Nothing => round.without = rate,
                Attached::Empty => round.empty = rate,
                Attached::Detector => round.detector = rate,
            }
        }
        rounds.push(round);
    }
    Ok(rounds)
}
