//! A metrics page in Prometheus's text format.

use std::collections::BTreeMap;

use crate::client::services::prometheus::plain;

/// A metrics page. Times and exemplars are not kept.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Page {
    /// Types by the name of the family.
    pub(super) types: BTreeMap<String, String>,
    pub(super) samples: Vec<Sample>,
}

/// One series with its value.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Sample {
    /// With `_bucket`, `_sum` or `_count`.
    pub(super) name: String,
    pub(super) labels: BTreeMap<String, String>,
    pub(super) value: f64,
}

impl Sample {
    /// The value of a label, empty without it, as Prometheus has it.
    pub(super) fn label(&self, name: &str) -> &str {
        self.labels.get(name).map_or("", String::as_str)
    }
}

impl Page {
    /// # Errors
    ///
    /// With the first line that is not in the format.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let mut page = Self::default();
        for (number, line) in text.lines().enumerate() {
            let line = line.trim();
            if let Some(typed) = line.strip_prefix("# TYPE ") {
                if let Some((name, kind)) = typed.split_once(' ') {
                    page.types.insert(name.to_owned(), kind.trim().to_owned());
                }
            } else if !line.is_empty() && !line.starts_with('#') {
                let sample = sample(line)
                    .ok_or_else(|| format!("line {} is no series: {}", number + 1, plain(line)))?;
                page.samples.push(sample);
            }
        }
        Ok(page)
    }

    /// The samples with that name.
    pub(super) fn of<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a Sample> {
        self.samples.iter().filter(move |sample| sample.name == name)
    }

    /// The sums of the values of a name, by these labels.
    pub(super) fn sums<const N: usize>(&self, name: &str, by: [&str; N]) -> BTreeMap<[String; N], f64> {
        let mut sums = BTreeMap::new();
        for sample in self.of(name) {
            *sums.entry(by.map(|label| sample.label(label).to_owned())).or_default() += sample.value;
        }
        sums
    }
}

fn sample(line: &str) -> Option<Sample> {
    let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == ':';
    let (name, mut rest) = line.split_at(line.find(|c| !is_name(c))?);
    let mut labels = BTreeMap::new();
    if let Some(inside) = rest.trim_start().strip_prefix('{') {
        rest = inside.trim_start();
        loop {
            if let Some(after) = rest.strip_prefix('}') {
                rest = after;
                break;
            }
            let (label, after) = rest.split_once('=')?;
            let (value, after) = quoted(after.trim_start())?;
            labels.insert(label.trim().to_owned(), value);
            let after = after.trim_start();
            rest = after.strip_prefix(',').unwrap_or(after).trim_start();
        }
    }
    let value = rest.split_whitespace().next()?.parse().ok()?;
    (!name.is_empty()).then(|| Sample { name: name.to_owned(), labels, value })
}

/// The text in quotes, and what follows.
fn quoted(text: &str) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut characters = text.strip_prefix('"')?.char_indices();
    while let Some((at, c)) = characters.next() {
        match c {
            '"' => return text.get(at + 2..).map(|rest| (value, rest)),
            '\\' => match characters.next()?.1 {
                'n' => value.push('\n'),
                other => value.push(other),
            },
            c => value.push(c),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_format_is_parsed() {
        let text =
            "# HELP a b\n# TYPE a counter\na{x=\"1,}\\\"\\n\\\\\", y = \"2\",} 3.5 1700000000000\n\nb 1e3\n";
        let page = Page::parse(text).unwrap();
        assert_eq!(page.types["a"], "counter");
        let labels = [("x", "1,}\"\n\\"), ("y", "2")].map(|(k, v)| (k.to_owned(), v.to_owned()));
        assert_eq!(page.samples[0], Sample { name: "a".into(), labels: labels.into(), value: 3.5 });
        assert_eq!(page.samples[1].value, 1000.0);
        assert_eq!(page.sums("a", ["y", "z"]), [(["2".to_owned(), String::new()], 3.5)].into());
    }

    #[test]
    fn malformed_line_is_reported_with_its_number() {
        for line in ["a{x=1} 1", "a{x=\"1\" 1", "a", "{} 1", "<html>", "a one", "a{x=\"1"] {
            let error = Page::parse(&format!("ok 1\n{line}")).unwrap_err();
            assert!(error.starts_with("line 2 is no series"), "{line}: {error}");
        }
    }
}
