//! Checks PromQL queries against the catalog: they must parse, and every metric, label and label value must exist.
//!
//! Prometheus does not report a query of an unknown metric: the result is always empty. Therefore the parsed query is
//! checked, not its text.

mod selector;

use std::collections::BTreeSet;

use promql_parser::label::Labels as Names;
use promql_parser::parser::{
    AggregateExpr, BinaryExpr, Call, Expr, LabelModifier, VectorMatchCardinality, VectorSelector,
};

use self::selector::Series;

/// Labels that Prometheus or its configuration adds to every series. The rules join both sides by `cluster` and
/// `deployment`, which are optional with a single deployment.
pub const TARGET_LABELS: &[&str] = &["cluster", "deployment", "instance", "job"];

/// The names in a query.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Uses {
    /// Metrics, by their names in the catalog: a histogram without `_bucket`, `_count` or `_sum`.
    pub metrics: BTreeSet<String>,
    /// Recording rules.
    pub recorded: BTreeSet<String>,
}

/// Checks a query. `recorded` are the existing recording rules. Grafana's variables must have been replaced.
///
/// - every metric is in the catalog, a recording rule, or one of the few that Prometheus itself creates;
/// - every label that is matched, grouped or joined by exists on its series, and every value of a label with a closed
///   set is in that set;
/// - `rate` and similar functions are applied to counters only, and `delta` and similar ones to gauges only.
///
/// # Errors
///
/// All errors of the query, one sentence each.
pub fn check(query: &str, recorded: &BTreeSet<String>) -> Result<Uses, Vec<String>> {
    let parsed =
        promql_parser::parser::parse(query).map_err(|error| vec![format!("is not valid PromQL: {error}")])?;
    let mut walk = Walk { recorded, uses: Uses::default(), wrong: Vec::new() };
    walk.expression(&parsed);
    if walk.wrong.is_empty() { Ok(walk.uses) } else { Err(walk.wrong) }
}

/// The labels that the series of an expression may have; `None` if they cannot be determined.
type Labels = Option<BTreeSet<String>>;

struct Walk<'a> {
    recorded: &'a BTreeSet<String>,
    uses: Uses,
    wrong: Vec<String>,
}

impl Walk<'_> {
    fn expression(&mut self, expression: &Expr) -> Labels {
        match expression {
            Expr::Aggregate(aggregate) => self.aggregate(aggregate),
            Expr::Binary(binary) => self.binary(binary),
            Expr::Call(call) => self.call(call),
            Expr::Paren(paren) => self.expression(&paren.expr),
            Expr::Subquery(subquery) => self.expression(&subquery.expr),
            Expr::Unary(unary) => self.expression(&unary.expr),
            Expr::VectorSelector(selector) => self.selector(selector).labels,
            Expr::MatrixSelector(selector) => self.selector(&selector.vs).labels,
            Expr::NumberLiteral(_) | Expr::StringLiteral(_) => Some(BTreeSet::new()),
            Expr::Extension(_) => None,
        }
    }

    fn selector(&mut self, selector: &VectorSelector) -> Series {
        selector::check(selector, self.recorded, &mut self.uses, &mut self.wrong)
    }

    fn aggregate(&mut self, aggregate: &AggregateExpr) -> Labels {
        if let Some(parameter) = &aggregate.param {
            self.expression(parameter);
        }
        let mut labels = self.expression(&aggregate.expr);
        match &aggregate.modifier {
            None => Some(BTreeSet::new()),
            Some(LabelModifier::Include(names)) => {
                self.has(&labels, names, "grouped by");
                Some(set(names))
            }
            Some(LabelModifier::Exclude(names)) => {
                self.has(&labels, names, "aggregated without");
                if let Some(labels) = &mut labels {
                    labels.retain(|label| !names.labels.contains(label));
                }
                labels
            }
        }
    }

    fn binary(&mut self, binary: &BinaryExpr) -> Labels {
        let (left, right) = (self.expression(&binary.lhs), self.expression(&binary.rhs));
        let mut brought = Vec::new();
        if let Some(modifier) = &binary.modifier {
            if let Some(LabelModifier::Include(names)) = &modifier.matching {
                self.has(&left, names, "joined on");
                self.has(&right, names, "joined on");
            }
            match &modifier.card {
                VectorMatchCardinality::ManyToOne(names) => {
                    self.has(&right, names, "copied from the right");
                    brought.extend(names.labels.iter().cloned());
                }
                VectorMatchCardinality::OneToMany(names) => {
                    self.has(&left, names, "copied from the left");
                    brought.extend(names.labels.iter().cloned());
                }
                VectorMatchCardinality::OneToOne | VectorMatchCardinality::ManyToMany => {}
            }
        }
        let mut labels = left?;
        labels.extend(right?);
        labels.extend(brought);
        Some(labels)
    }

    fn call(&mut self, call: &Call) -> Labels {
        let function = call.func.name;
        let mut labels = Some(BTreeSet::new());
        for argument in &call.args.args {
            if let Expr::MatrixSelector(selector) = &**argument {
                let series = self.selector(&selector.vs);
                self.kind(function, selector.vs.name.as_deref().unwrap_or_default(), series.counter);
                labels = series.labels;
            } else {
                let of_argument = self.expression(argument);
                if is_of_counters(function) {
                    self.wrong
                        .push(format!("{function} is taken of something else than a counter's own series"));
                }
                if !matches!(**argument, Expr::NumberLiteral(_) | Expr::StringLiteral(_)) {
                    labels = of_argument;
                }
            }
        }
        match function {
            "time" | "scalar" | "vector" => Some(BTreeSet::new()),
            // The result has the labels of the matched series.
            "absent" | "absent_over_time" => None,
            "label_replace" | "label_join" => {
                let names: Vec<_> = call.args.args.iter().filter_map(|argument| text(argument)).collect();
                // The arguments after the new label: its value and source label, or a separator and labels.
                let sources: &[&str] = match function {
                    "label_replace" => names.get(2..3).unwrap_or_default(),
                    _ => names.get(2..).unwrap_or_default(),
                };
                let sources = sources.iter().filter(|name| !name.is_empty()).map(|&name| name.to_owned());
                self.has(&labels, &Names { labels: sources.collect() }, "read for a new label");
                if let (Some(labels), Some(new)) = (&mut labels, names.first()) {
                    labels.insert((*new).to_owned());
                }
                labels
            }
            "histogram_quantile" => {
                self.has(&labels, &Names::new(vec!["le"]), "needed for a quantile");
                if let Some(labels) = &mut labels {
                    labels.remove("le");
                }
                labels
            }
            _ => labels,
        }
    }

    fn kind(&mut self, function: &str, name: &str, counter: Option<bool>) {
        let of_gauges = ["delta", "idelta", "deriv", "predict_linear"].contains(&function);
        match counter {
            Some(false) if is_of_counters(function) => {
                self.wrong.push(format!("{function} is applied to {name}, which is not a counter"));
            }
            Some(true) if of_gauges => {
                self.wrong.push(format!("{function} is applied to {name}, which is a counter"));
            }
            _ => {}
        }
    }

    fn has(&mut self, labels: &Labels, names: &Names, what: &str) {
        let Some(labels) = labels else { return };
        for name in names.labels.iter().filter(|name| !labels.contains(*name)) {
            self.wrong.push(format!("{name} is {what}, and no series there has such a label"));
        }
    }
}

fn is_of_counters(function: &str) -> bool {
    ["rate", "irate", "increase", "resets"].contains(&function)
}

fn set(names: &Names) -> BTreeSet<String> {
    names.labels.iter().cloned().collect()
}

fn text(expression: &Expr) -> Option<&str> {
    match expression {
        Expr::StringLiteral(literal) => Some(&literal.val),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
