//! Whether a backend's own metrics page has the callers' metrics as dashboards and alerts read them, in whatever language the
//! backend is written.
//!
//! | module | contents |
//! | --- | --- |
//! | `page` | the page in Prometheus's text format |
//! | `names` | names, types, buckets, labels and their values |
//! | `counters` | series that exist from the start, and counters that belong together |

mod counters;
mod names;
mod page;

use self::page::Page;
use super::finding::Finding;
use crate::client::services::{ServiceClient, ServiceError};

const PAGE: &str = "backend page";

/// The findings about the page at a URL.
pub(crate) async fn metrics_page(service: &ServiceClient) -> Vec<Finding> {
    let at = service.display_address();
    let text = match service.get("", &[]).await {
        Ok(text) => String::from_utf8_lossy(&text).into_owned(),
        Err(error) => {
            let remediation = match error {
                ServiceError::Unauthorized(_) => {
                    "give a valid token with --backend.token-file or TXNSCOPE_BACKEND_TOKEN, or put the URL with user and \
                     password into the variable TXNSCOPE_BACKEND_METRICS_URL"
                }
                _ => {
                    "check that the backend is running, and that --backend.metrics-url is the URL of its metrics page"
                }
            };
            return vec![Finding::fail(PAGE, format!("{at}: {error}"), remediation)];
        }
    };
    findings(&at, &text)
}

/// The findings about the text of a page.
pub(crate) fn findings(at: &str, text: &str) -> Vec<Finding> {
    let page = match Page::parse(text) {
        Ok(page) if !page.samples.is_empty() => page,
        Ok(_) => {
            return vec![Finding::fail(
                PAGE,
                format!("{at}: the page has no series"),
                "check that --backend.metrics-url is the URL of its metrics page",
            )];
        }
        Err(error) => {
            return vec![Finding::fail(
                PAGE,
                format!("{at}: {error}"),
                "serve Prometheus's text format; `promtool check metrics` checks a page",
            )];
        }
    };
    let mut findings =
        vec![Finding::pass(PAGE, format!("{at} responds, with {} series", page.samples.len()))];
    findings.extend(names::check(&page));
    findings.extend(counters::check(&page));
    findings
}
