//! Requests with the values of variables, and the variables that responses set.

use anyhow::{Result, anyhow};
use http::header::{HeaderName, HeaderValue};
use serde_json::Value;
use toml::Spanned;

use crate::commands::drill::backend::Request;
use crate::commands::drill::scenario::file::{Captures, Headers, Method};
use crate::commands::drill::scenario::template::{Body, Template};
use crate::commands::drill::scenario::variables::{Variable, Variables};

/// Sets the variables that a response has.
///
/// # Errors
///
/// If one is missing or has no usable value.
pub(crate) fn capture(
    captures: &Captures,
    body: &Value,
    as_list: bool,
    variables: &mut Variables,
) -> Result<(), String> {
    for (name, pointer) in captures {
        let value = body.pointer(&pointer.0).ok_or_else(|| format!("it has no {}", pointer.0))?;
        let value = Variable::from_json(value).map_err(|why| format!("its {} is {why}", pointer.0))?;
        if as_list { variables.push(name.get_ref(), value) } else { variables.set(name.get_ref(), value) }
    }
    Ok(())
}

/// A request with the values of the variables.
///
/// # Errors
///
/// If a variable has no value, or one that a header cannot carry.
pub(crate) fn build(
    method: Method,
    path: &Spanned<Template>,
    headers: &Headers,
    body: Option<&Spanned<Body>>,
    variables: &Variables,
    index: usize,
) -> Result<Request> {
    let text = |error: String| anyhow!(error);
    let header = |(name, value): (&Spanned<String>, &Spanned<Template>)| {
        let value = value.get_ref().render(variables, index).map_err(text)?;
        let value = HeaderValue::try_from(value);
        let value = value.map_err(|_| anyhow!("the header {} cannot carry its value", name.get_ref()))?;
        Ok((HeaderName::try_from(name.get_ref().as_str())?, value))
    };
    Ok(Request {
        method: method.into(),
        path: path.get_ref().render_path(variables, index).map_err(text)?,
        headers: headers.iter().map(header).collect::<Result<_>>()?,
        body: body.map(|body| body.get_ref().render(variables, index)).transpose().map_err(text)?,
    })
}
