//! Content negotiation: the metrics page in the format that the scraper prefers.

use axum::http::header::{ACCEPT, CONTENT_TYPE, VARY};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use prometheus::{Encoder, ProtobufEncoder, TEXT_FORMAT, TextEncoder};

use crate::export::families;
use crate::store::MetricStore;

const PROTOBUF_FORMAT: &str =
    "application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=delimited";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Format {
    Text,
    Protobuf,
}

/// Renders the current metrics page.
pub(super) fn page(store: &MetricStore, headers: &HeaderMap) -> Response {
    let families = families(store);
    let format = negotiate_format(headers);
    let mut body = Vec::new();
    let (encoded, content_type) = match format {
        Format::Text => (TextEncoder::new().encode(&families, &mut body), TEXT_FORMAT),
        Format::Protobuf => (ProtobufEncoder::new().encode(&families, &mut body), PROTOBUF_FORMAT),
    };
    tracing::trace!(?format, bytes = body.len(), "scraped");
    match encoded {
        Ok(()) => ([(CONTENT_TYPE, content_type), (VARY, "accept")], body).into_response(),
        Err(error) => {
            tracing::error!(%error, "the page cannot be rendered");
            (StatusCode::INTERNAL_SERVER_ERROR, "the page cannot be rendered; see the log\n").into_response()
        }
    }
}

/// Selects protobuf if the client accepts it, and does not prefer the text format.
fn negotiate_format(headers: &HeaderMap) -> Format {
    let (mut text, mut protobuf) = (0.0, 0.0);
    let values = headers.get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok());
    for range in values.flat_map(|value| value.split(',')) {
        let mut parts = range.split(';').map(str::trim);
        let kind = parts.next().unwrap_or_default().to_ascii_lowercase();
        let parameters: Vec<_> = parts.filter_map(|part| part.split_once('=')).collect();
        let parameter = |name: &str| {
            let found = parameters.iter().find(|(known, _)| known.trim().eq_ignore_ascii_case(name));
            found.map(|(_, value)| value.trim().trim_matches('"'))
        };
        let liked = parameter("q").map_or(1.0, |q| q.parse().unwrap_or(0.0));
        match kind.as_str() {
            "application/vnd.google.protobuf"
                if parameter("proto").is_none_or(|proto| proto == "io.prometheus.client.MetricFamily")
                    && parameter("encoding").is_none_or(|encoding| encoding == "delimited") =>
            {
                protobuf = f64::max(protobuf, liked);
            }
            "text/plain" if parameter("version").is_none_or(|version| version == "0.0.4") => {
                text = f64::max(text, liked);
            }
            _ => {}
        }
    }
    if protobuf > 0.0 && protobuf >= text { Format::Protobuf } else { Format::Text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn preferred_exposition_format_is_negotiated() {
        let of = |value: &str| negotiate_format(&[(ACCEPT, value.parse().unwrap())].into_iter().collect());
        // As sent by Prometheus, without and with native histograms.
        let text = "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5,*/*;q=0.1";
        let protobuf = "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited,\
                        application/openmetrics-text;version=1.0.0;q=0.8,text/plain;version=0.0.4;q=0.5,*/*;q=0.1";
        assert_eq!(of(text), Format::Text);
        assert_eq!(of(protobuf), Format::Protobuf);
        for other in [
            "",
            "*/*",
            "text/html",
            "application/vnd.google.protobuf;q=0",
            "application/vnd.google.protobuf;q=0.4, text/plain",
            "application/vnd.google.protobuf;encoding=text",
            "application/vnd.google.protobuf;proto=another",
            "application/vnd.google.protobuf;q=much",
        ] {
            assert_eq!(of(other), Format::Text, "{other}");
        }
        assert_eq!(negotiate_format(&HeaderMap::new()), Format::Text);
    }
}
