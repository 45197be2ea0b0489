//! Which operation a request is: by its method and the route template that its path matches.

use std::collections::BTreeMap;

use http::Method;

/// Finds the operation of a method and a path. The templates are those of axum's router, whose own crate does the work.
#[derive(Debug, Default, Clone)]
pub(super) struct Router {
    of_method: BTreeMap<String, matchit::Router<usize>>,
}

/// The methods that an operation may have.
const METHODS: [&str; 7] = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"];

impl Router {
    /// Adds an operation by its name, which is a method, a space and a template.
    ///
    /// # Errors
    ///
    /// If the name is not of that form, or another template matches the same paths. The error says how to write it.
    pub(super) fn add(&mut self, name: &str, index: usize) -> Result<(), String> {
        let Some((method, template)) = name.split_once(' ') else {
            return Err(format!(
                "`{name}` is no operation: write the method, a space and the route template, as in \
                 \"POST /api/retainers/{{id}}/consume\""
            ));
        };
        if !METHODS.contains(&method) {
            let meant = txnscope_catalog::nearest(&method.to_ascii_uppercase(), &METHODS);
            let hint = meant.map_or_else(
                || format!("there are {}", METHODS.join(", ")),
                |meant| format!("did you mean `{meant}`?"),
            );
            return Err(format!("`{method}` is no method; {hint}"));
        }
        check(template)?;
        let routes = self.of_method.entry(method.to_owned()).or_default();
        routes.insert(template, index).map_err(|error| match error {
            matchit::InsertError::Conflict { with } if with == template => {
                format!("the operation `{name}` stands here twice")
            }
            matchit::InsertError::Conflict { with } => {
                format!("`{template}` matches the same paths as `{with}`: a request could be either")
            }
            error => format!("`{template}` is no route template: {error}"),
        })
    }

    pub(super) fn find(&self, method: &Method, path: &str) -> Option<usize> {
        self.of_method.get(method.as_str())?.at(path).ok().map(|found| *found.value)
    }
}

/// What axum refuses or reads otherwise than it looks.
fn check(template: &str) -> Result<(), String> {
    if !template.starts_with('/') {
        return Err(format!("the template `{template}` must begin with a slash"));
    }
    if template.len() > 256 {
        return Err("a template has 256 bytes at most: it becomes a label".to_owned());
    }
    if let Some(invalid) =
        template.chars().find(|c| c.is_control() || c.is_whitespace() || matches!(c, '?' | '#'))
    {
        return Err(format!("{invalid:?} cannot stand in the path of a request, and so in no template"));
    }
    for segment in template.split('/') {
        let old = [(':', "{", "}"), ('*', "{*", "}")];
        for (mark, open, close) in old {
            if let Some(name) = segment.strip_prefix(mark) {
                let name = if name.is_empty() { "rest" } else { name };
                return Err(format!("`{segment}` is written `{open}{name}{close}` in a template"));
            }
        }
    }
    Ok(())
}
