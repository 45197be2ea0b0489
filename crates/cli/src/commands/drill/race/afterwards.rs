//! What must hold after a burst.

use anyhow::{Result, anyhow};
use serde_json::Value;
use toml::Spanned;
use txnscope_catalog::escape_line;

use crate::commands::drill::backend::{Reply, describe};
use crate::commands::drill::race::RaceEnvironment;
use crate::commands::drill::race::findings::{Compared, Comparison, Counter, Findings, compare};
use crate::commands::drill::scenario::file::After;
use crate::commands::drill::scenario::number::Number;
use crate::commands::drill::scenario::request::{build, capture};
use crate::commands::drill::scenario::template::Template;
use crate::commands::drill::scenario::variables::{Variable, Variables};

/// The state of a round after its burst.
pub(super) struct Afterwards<'a> {
    pub(super) env: &'a RaceEnvironment,
    pub(super) variables: Variables,
    pub(super) counters: Vec<Counter>,
    pub(super) findings: &'a mut Findings,
    /// Whether a response was missing, so that variables may have no value.
    pub(super) incomplete: bool,
}

/// A value that is compared.
#[derive(Debug, Clone, Copy)]
struct Subject<'a> {
    after: &'a After,
    /// The number of the response.
    index: usize,
    what: &'a str,
    /// Whether the value was read at one time, and not computed from several reads.
    is_single_read: bool,
}

impl Afterwards<'_> {
    /// # Errors
    ///
    /// If an expression cannot be computed, although all responses are there.
    pub(super) async fn check_all(mut self, all: &[After]) -> Result<()> {
        for after in all {
            match self.check(after).await {
                Err(_) if self.incomplete => {}
                checked => checked?,
            }
        }
        Ok(())
    }

    async fn check(&mut self, after: &After) -> Result<()> {
        if let Some(value) = &after.value {
            let actual = value
                .get_ref()
                .evaluate(&|name| self.variables.number(name))
                .map_err(|error| anyhow!(error))?;
            return self
                .compare_all(Subject { after, index: 0, what: "the value", is_single_read: false }, actual);
        }
        let Some(path) = &after.path else { return Ok(()) };
        let lists = path.get_ref().variables().map(|name| self.variables.len(name));
        let times = lists.max().unwrap_or(1);
        let is_list = times > 1;
        let mut counted = 0;
        for index in 0..times {
            let sent =
                build(after.method, path, &after.headers, after.body.as_ref(), &self.variables, index)?;
            let what = format!("{} {}", sent.method, sent.path);
            let body = match self.env.backend.send(sent).await {
                Reply::Received(status, body) if after.status.contains(status) => body,
                reply => {
                    self.incomplete = true;
                    let reply = describe(&reply, &self.env.error);
                    self.findings.add_uncertainty(format!("{what} responded with {reply}"));
                    return Ok(());
                }
            };
            if let Err(why) = capture(&after.capture, &body, is_list, &mut self.variables) {
                self.incomplete = true;
                self.findings.add_violation(format!("{what} responded, but {why}"));
                return Ok(());
            }
            counted += usize::from(self.check_response(after, &body, index, &what)?);
        }
        if let Some(name) = &after.count {
            self.variables.set_number(name.get_ref(), counted);
            // A text that a request sets is not unset by another one.
            let subject = Subject { after, index: 0, what: "the count", is_single_read: true };
            self.compare_all(subject, Number::from(counted))?;
        }
        Ok(())
    }

    /// Checks the value of one response, and returns whether it has the text that is counted.
    fn check_response(&mut self, after: &After, body: &Value, index: usize, request: &str) -> Result<bool> {
        let Some(pointer) = &after.json else { return Ok(false) };
        let what = format!("{} of {request}", pointer.0);
        let subject = Subject { after, index, what: &what, is_single_read: true };
        let Some(value) = body.pointer(&pointer.0) else {
            self.incomplete = true;
            self.findings.add_violation(format!("{request} has no {}", pointer.0));
            return Ok(false);
        };
        if let Some(text) = &after.text {
            let text = text.get_ref().render(&self.variables, index).map_err(|error| anyhow!(error))?;
            let actual = Variable::from_json(value).map(|value| value.text(0)).unwrap_or_default();
            let is_equal = actual == text;
            if !is_equal && after.count.is_none() {
                let message = self.message(subject, &actual, Comparison::Equals.words(), &text)?;
                self.add(message, self.is_settled());
            }
            return Ok(is_equal);
        }
        let is_compared = after.equals.is_some() || after.at_least.is_some() || after.at_most.is_some();
        match Number::from_json(value, self.env.decimals) {
            _ if !is_compared => {}
            Ok(actual) => self.compare_all(subject, actual)?,
            Err(why) => self.findings.add_violation(format!("{what} is {why}")),
        }
        Ok(false)
    }

    fn compare_all(&mut self, subject: Subject<'_>, actual: Number) -> Result<()> {
        let after = subject.after;
        for (comparison, expression) in [
            (Comparison::Equals, &after.equals),
            (Comparison::AtLeast, &after.at_least),
            (Comparison::AtMost, &after.at_most),
        ] {
            let Some(expression) = expression.as_ref().map(Spanned::get_ref) else { continue };
            let compared = compare(actual, comparison, expression, &self.variables, &self.counters);
            match compared.map_err(|error| anyhow!(error))? {
                Compared::Holds => {}
                Compared::Violated(expected) => {
                    let counts = self.counters.iter().any(|counter| expression.variables().contains(&&*counter.name));
                    let is_certain = self.is_settled()
                        || subject.is_single_read && (counts || comparison != Comparison::Equals);
                    let (actual, expected) = (actual.to_string(), expected.to_string());
                    let message = self.message(subject, &actual, comparison.words(), &expected)?;
                    self.add(message, is_certain);
                }
                Compared::Undecided => self.findings.add_uncertainty(format!(
                    "{} is {actual}, and too many requests have an unknown outcome to decide whether it is right",
                    subject.what
                )),
            }
        }
        Ok(())
    }

    /// Whether the outcome of all requests is known. If not, one may still be processed between two reads, and a value that
    /// does not depend on the successes may be that of before.
    fn is_settled(&self) -> bool {
        self.counters.iter().all(|counter| counter.count.unknown == 0)
    }

    fn message(&self, subject: Subject<'_>, actual: &str, words: &str, expected: &str) -> Result<String> {
        let Subject { after, index, what, .. } = subject;
        let mut variables = self.variables.clone();
        variables.set("actual", Variable::Text(actual.to_owned()));
        variables.set("expected", Variable::Text(expected.to_owned()));
        let render = |template: &Spanned<Template>| template.get_ref().render(&variables, index);
        let message = match (&after.message, &after.what) {
            (Some(message), _) => render(message),
            (None, what_template) => {
                let what = what_template.as_ref().map_or_else(|| Ok(what.to_owned()), render);
                let succeeded = self.counters.first().map_or(0, |counter| counter.count.succeeded);
                what.map(|what| format!("{what} is {actual}, and {words} {expected} ({succeeded} succeeded)"))
            }
        };
        message.map_err(|error| anyhow!(error))
    }

    fn add(&mut self, message: String, is_certain: bool) {
        let message = escape_line(&message);
        if is_certain { self.findings.add_violation(message) } else { self.findings.add_uncertainty(message) }
    }
}
