//! A strict parser of metric pages: a page that it accepts is accepted by every scraper.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use anyhow::Result;

/// A page in the text format 0.0.4.
#[derive(Debug, Clone, Default)]
pub struct Scrape {
    families: Vec<Family>,
}

/// A family of time series.
#[derive(Debug, Clone)]
pub struct Family {
    /// The name, without `_bucket`, `_sum` or `_count`.
    pub name: String,
    /// The text of `# HELP`.
    pub help: String,
    /// The type from `# TYPE`.
    pub kind: Kind,
    /// The samples, in the order of the page.
    pub series: Vec<Series>,
}

/// The types that a `# TYPE` line may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs, reason = "the words are Prometheus's own")]
pub enum Kind {
    Counter,
    Gauge,
    Histogram,
    Summary,
    Untyped,
}

/// One sample.
#[derive(Debug, Clone, PartialEq)]
pub struct Series {
    /// The name on the line, with `_bucket` and similar suffixes.
    pub name: String,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Its value.
    pub value: f64,
}

/// The error of a rejected page: the line, and what is wrong with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScrapeError {
    /// The line number, starting at 1; 0 for the page as a whole.
    pub line: usize,
    /// The description of the error.
    pub what: String,
}

impl fmt::Display for ScrapeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: {}", self.line, self.what)
    }
}

impl std::error::Error for ScrapeError {}

impl Scrape {
    /// Fetches and parses a page.
    ///
    /// # Errors
    ///
    /// If the status is not 200, the content type is not that of the text format, or the page is malformed.
    pub async fn get(url: &str) -> Result<Self> {
        let response = reqwest::get(url).await?.error_for_status()?;
        let content_type = response.headers().get("content-type").and_then(|value| value.to_str().ok());
        anyhow::ensure!(
            content_type.is_some_and(|value| value.starts_with("text/plain; version=0.0.4")),
            "{url} has the content type {content_type:?}"
        );
        Ok(Self::parse(&response.text().await?)?)
    }

    /// Parses a page.
    ///
    /// # Errors
    ///
    /// If a line is malformed, a sample is outside of its family, a family or series is duplicated, or a histogram is
    /// inconsistent.
    pub fn parse(page: &str) -> Result<Self, ScrapeError> {
        let mut reader = Reader::default();
        for (index, line) in page.lines().enumerate() {
            reader.line(line).map_err(|what| ScrapeError { line: index + 1, what })?;
        }
        if !page.is_empty() && !page.ends_with('\n') {
            return Err(ScrapeError {
                line: page.lines().count(),
                what: "the last line has no line break".to_owned(),
            });
        }
        reader.finish().map_err(|what| ScrapeError { line: 0, what })
    }

    /// The families, in the order of the page.
    #[must_use]
    pub fn families(&self) -> &[Family] {
        &self.families
    }

    /// The family with that name.
    #[must_use]
    pub fn family(&self, name: &str) -> Option<&Family> {
        self.families.iter().find(|family| family.name == name)
    }

    /// The samples with that name and at least these labels.
    pub fn matching<'a>(
        &'a self,
        name: &'a str,
        labels: &'a [(&str, &str)],
    ) -> impl Iterator<Item = &'a Series> {
        let has = |series: &Series| {
            labels.iter().all(|(k, v)| series.labels.get(*k).is_some_and(|value| value == v))
        };
        self.families
            .iter()
            .flat_map(|family| &family.series)
            .filter(move |series| series.name == name && has(series))
    }

    /// The value of the only sample with that name and at least these labels.
    #[must_use]
    pub fn value(&self, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
        let mut found = self.matching(name, labels);
        let first = found.next()?;
        found.next().is_none().then_some(first.value)
    }

    /// The sum of the samples with that name and at least these labels; 0 if there are none.
    #[must_use]
    pub fn sum(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        self.matching(name, labels).map(|series| series.value).sum()
    }
}

#[derive(Default)]
struct Reader {
    families: Vec<Family>,
    help: Option<(String, String)>,
    seen: BTreeSet<(String, BTreeMap<String, String>)>,
}

impl Reader {
    fn line(&mut self, line: &str) -> Result<(), String> {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            let (name, help) = rest.split_once(' ').unwrap_or((rest, ""));
            self.open(name)?;
            self.help = Some((legal_name(name)?, help.to_owned()));
            return Ok(());
        }
        if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').ok_or("a TYPE line has a name and a type")?;
            self.open(name)?;
            let help = match self.help.take() {
                Some((helped, help)) if helped == name => help,
                _ => return Err(format!("{name} has no HELP before its TYPE")),
            };
            self.families.push(Family {
                name: legal_name(name)?,
                help,
                kind: kind_of(kind)?,
                series: Vec::new(),
            });
            return Ok(());
        }
        if line.is_empty() || line.starts_with('#') {
            return Ok(());
        }
        let series = sample(line)?;
        let family = self.families.last_mut().ok_or("a sample stands before any family")?;
        if !belongs(&series, family) {
            return Err(format!("{} does not belong to {}, which is open", series.name, family.name));
        }
        if !self.seen.insert((series.name.clone(), series.labels.clone())) {
            return Err(format!("{} with {:?} is duplicated", series.name, series.labels));
        }
        family.series.push(series);
        Ok(())
    }

    fn open(&self, name: &str) -> Result<(), String> {
        match self.families.iter().any(|family| family.name == name) {
            true => Err(format!("the family {name} is duplicated")),
            false => Ok(()),
        }
    }

    fn finish(self) -> Result<Scrape, String> {
        if let Some((name, _)) = self.help {
            return Err(format!("{name} has HELP and no TYPE"));
        }
        self.families.iter().filter(|family| family.kind == Kind::Histogram).try_for_each(adds_up)?;
        Ok(Scrape { families: self.families })
    }
}

fn kind_of(word: &str) -> Result<Kind, String> {
    match word {
        "counter" => Ok(Kind::Counter),
        "gauge" => Ok(Kind::Gauge),
        "histogram" => Ok(Kind::Histogram),
        "summary" => Ok(Kind::Summary),
        "untyped" => Ok(Kind::Untyped),
        other => Err(format!("{other} is not a type")),
    }
}

fn belongs(series: &Series, family: &Family) -> bool {
    let suffix = series.name.strip_prefix(family.name.as_str());
    match family.kind {
        Kind::Histogram => match suffix {
            Some("_bucket") => series.labels.contains_key("le"),
            suffix => matches!(suffix, Some("_sum" | "_count")),
        },
        Kind::Summary => matches!(suffix, Some("" | "_sum" | "_count")),
        Kind::Counter | Kind::Gauge | Kind::Untyped => suffix == Some(""),
    }
}

/// One series of a histogram.
#[derive(Default)]
struct Distribution {
    /// Bounds and cumulative counts.
    buckets: Vec<(f64, f64)>,
    sum: Option<f64>,
    count: Option<f64>,
}

/// Verifies that each histogram has increasing buckets, a last bucket `+Inf` that equals its count, and a sum.
fn adds_up(family: &Family) -> Result<(), String> {
    let mut histograms: BTreeMap<_, Distribution> = BTreeMap::new();
    for series in &family.series {
        let mut labels = series.labels.clone();
        let bound = labels.remove("le");
        let of = histograms.entry(labels).or_default();
        match bound {
            Some(bound) => of.buckets.push((number(&bound)?, series.value)),
            None if series.name.ends_with("_sum") => of.sum = Some(series.value),
            None => of.count = Some(series.value),
        }
    }
    for (labels, Distribution { buckets, sum, count }) in histograms {
        let wrong = |what: &str| Err(format!("the histogram {} with {labels:?} {what}", family.name));
        if buckets.windows(2).any(|pair| pair[0].0 >= pair[1].0 || pair[0].1 > pair[1].1) {
            return wrong("has buckets that do not increase");
        }
        match buckets.last() {
            Some((bound, all)) if bound.is_infinite() && Some(*all) == count => {}
            _ => return wrong("has no +Inf bucket that equals its count"),
        }
        if sum.is_none() {
            return wrong("has no sum");
        }
    }
    Ok(())
}

fn legal_name(name: &str) -> Result<String, String> {
    let legal = |(i, c): (usize, char)| {
        c.is_ascii_alphabetic() || c == '_' || c == ':' || (i > 0 && c.is_ascii_digit())
    };
    match !name.is_empty() && name.chars().enumerate().all(legal) {
        true => Ok(name.to_owned()),
        false => Err(format!("{name:?} is not a valid name")),
    }
}

fn number(text: &str) -> Result<f64, String> {
    match text {
        "+Inf" => Ok(f64::INFINITY),
        "-Inf" => Ok(f64::NEG_INFINITY),
        "NaN" => Ok(f64::NAN),
        text => text.parse().map_err(|_| format!("{text:?} is not a number")),
    }
}

fn sample(line: &str) -> Result<Series, String> {
    let end = line.find(['{', ' ']).ok_or("a sample has a value")?;
    let (name, rest) = line.split_at(end);
    let (labels, rest) = match rest.strip_prefix('{') {
        Some(rest) => labels(rest)?,
        None => (BTreeMap::new(), rest),
    };
    let value = rest.strip_prefix(' ').ok_or("a space stands before the value")?;
    Ok(Series { name: legal_name(name)?, labels, value: number(value)? })
}

/// Parses the labels between the braces, and returns them with the rest of the line.
fn labels(mut rest: &str) -> Result<(BTreeMap<String, String>, &str), String> {
    let mut labels = BTreeMap::new();
    loop {
        if let Some(rest) = rest.strip_prefix('}') {
            return Ok((labels, rest));
        }
        let (name, quoted) = rest.split_once("=\"").ok_or("a label has a quoted value")?;
        if name.contains(':') {
            return Err(format!("{name:?} is not a valid label"));
        }
        let (value, after) = quoted_value(quoted)?;
        if labels.insert(legal_name(name)?, value).is_some() {
            return Err(format!("the label {name} is duplicated"));
        }
        rest = match after.strip_prefix(',') {
            Some(rest) => rest,
            None if after.starts_with('}') => after,
            None => return Err("labels must be separated by commas".to_owned()),
        };
    }
}

fn quoted_value(text: &str) -> Result<(String, &str), String> {
    let mut value = String::new();
    let mut chars = text.char_indices();
    while let Some((index, c)) = chars.next() {
        match c {
            '"' => return Ok((value, &text[index + 1..])),
            '\\' => match chars.next() {
                Some((_, 'n')) => value.push('\n'),
                Some((_, c @ ('\\' | '"'))) => value.push(c),
                _ => return Err("a backslash must precede \\, \" or n".to_owned()),
            },
            c => value.push(c),
        }
    }
    Err("a label's value is not terminated".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: &str = "\
# HELP jobs_total Jobs.
# TYPE jobs_total counter
jobs_total{kind=\"a\\\"b\\\\c\\nd\"} 3
jobs_total{kind=\"e\",} 4

# HELP seconds Time.
# TYPE seconds histogram
seconds_bucket{le=\"0.5\"} 1
seconds_bucket{le=\"+Inf\"} 2
seconds_sum 1.5
seconds_count 2
";

    #[test]
    fn metrics_page_is_parsed() {
        let scrape = Scrape::parse(PAGE).unwrap();
        assert_eq!(scrape.value("jobs_total", &[("kind", "a\"b\\c\nd")]), Some(3.0));
        assert_eq!(scrape.sum("jobs_total", &[]), 7.0);
        assert_eq!(scrape.value("jobs_total", &[]), None, "two series match");
        assert_eq!(scrape.value("seconds_bucket", &[("le", "+Inf")]), Some(2.0));
        assert_eq!(scrape.family("seconds").unwrap().kind, Kind::Histogram);
    }

    #[test]
    fn malformed_pages_are_rejected() {
        let counter = "# HELP a_total A.\n# TYPE a_total counter\n";
        let histogram = "# HELP h H.\n# TYPE h histogram\n";
        for (page, complaint) in [
            ("a_total 1\n".to_owned(), "before any family"),
            (format!("{counter}b_total 1\n"), "does not belong"),
            (format!("{counter}a_total 1\na_total 2\n"), "is duplicated"),
            (format!("{counter}a_total 1\n{counter}"), "is duplicated"),
            (format!("{counter}a_total one\n"), "not a number"),
            (format!("{counter}a_total{{x=\"1\" 1\n"), "separated by commas"),
            (format!("{counter}a_total{{x=\"1\",x=\"2\"}} 1\n"), "the label x is duplicated"),
            (format!("{counter}a_total{{x=\"\\q\"}} 1\n"), "backslash"),
            (format!("{counter}a_total{{0x=\"\"}} 1\n"), "not a valid name"),
            (format!("{counter}a_total 1"), "no line break"),
            ("# TYPE a_total counter\n".to_owned(), "no HELP"),
            ("# HELP a_total A.\n".to_owned(), "no TYPE"),
            ("# HELP a A.\n# TYPE a meter\n".to_owned(), "not a type"),
            (format!("{histogram}h_bucket{{le=\"1\"}} 1\nh_sum 1\nh_count 1\n"), "+Inf"),
            (format!("{histogram}h_bucket{{le=\"+Inf\"}} 1\nh_sum 1\nh_count 2\n"), "+Inf"),
            (
                format!("{histogram}h_bucket{{le=\"1\"}} 3\nh_bucket{{le=\"+Inf\"}} 2\nh_sum 1\nh_count 2\n"),
                "increase",
            ),
            (format!("{histogram}h_bucket{{le=\"+Inf\"}} 2\nh_count 2\n"), "no sum"),
        ] {
            let error = Scrape::parse(&page).expect_err(&page);
            assert!(error.what.contains(complaint), "{page}\n{error}");
        }
    }
}
