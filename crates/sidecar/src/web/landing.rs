//! The landing page.

use std::fmt::Write as _;

use axum::extract::State;
use axum::response::Html;
use tokio::time::Instant;

use super::{Web, state};

pub(super) const STYLE: &str = "body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem}\
    table{border-collapse:collapse}th,td{text-align:left;padding:.2rem 1rem .2rem 0;border-bottom:1px solid #ddd}\
    .bad{color:#b00020}";

pub(super) async fn page(State(web): State<Web>) -> Html<String> {
    let now = Instant::now();
    let mut rows = String::new();
    for member in web.store.members() {
        let state = state(&member, now);
        let class = if state == "down" { " class=\"bad\"" } else { "" };
        let (rs, address) = (escaped(&member.rs()), escaped(member.address()));
        let collectors = member.collectors().map(|collector| {
            let history = collector.history();
            let how = match history.last.map(|last| last.failure) {
                None => "not asked yet",
                Some(None) => "ok",
                Some(Some(reason)) => reason.as_str(),
            };
            let age = history.age(now).map(|age| format!(", {:.0} s old", age.as_secs_f64()));
            format!("{}: {how}{}", collector.name(), age.unwrap_or_default())
        });
        let collectors = collectors.collect::<Vec<_>>().join("<br>");
        let _ = write!(
            rows,
            "<tr><td>{address}</td><td>{rs}</td><td{class}>{state}</td><td>{collectors}</td></tr>"
        );
    }
    let mut probes = String::new();
    for name in web.deployments.probe_names().await {
        let _ = write!(probes, " · <a href=\"/probe?target={0}\">{0}</a>", escaped(&name));
    }
    if !probes.is_empty() {
        probes = format!("<p>Targets on demand{probes}</p>");
    }
    let version = env!("CARGO_PKG_VERSION");
    let path = &web.telemetry_path;
    Html(format!(
        "<!DOCTYPE html><html lang=\"en\"><head><meta charset=\"utf-8\"><title>txnscope</title>\
         <style>{STYLE}</style></head><body><h1>txnscope {version}</h1>\
         <p>MongoDB transactions, as the servers themselves count them.</p>\
         <p><a href=\"{path}\">Metrics</a> · <a href=\"/-/healthy\">Healthy</a> · <a href=\"/-/ready\">Ready</a></p>{probes}\
         <table><thead><tr><th>member</th><th>replica set</th><th>state</th><th>last polls</th></tr></thead>\
         <tbody>{rows}</tbody></table></body></html>\n"
    ))
}

fn escaped(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            '\'' => safe.push_str("&#39;"),
            c => safe.push(c),
        }
    }
    safe
}
