//! The variables of a round: what it counts, and what it has captured from responses.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::Value;

use crate::commands::drill::scenario::number::{MAX_DECIMALS, Number};

/// The value of a variable.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Variable {
    Text(String),
    Number(Number),
    Bool(bool),
    /// One value for each repetition of a request. Clones share the values.
    List(Arc<Vec<Variable>>),
}

#[derive(Debug, Clone, Default)]
pub(crate) struct Variables(BTreeMap<String, Variable>);

impl Variable {
    /// The value that a response has at a pointer.
    ///
    /// # Errors
    ///
    /// If it is neither a text that is not empty, nor a number, nor a boolean.
    pub(crate) fn from_json(value: &Value) -> Result<Self, &'static str> {
        match value {
            Value::String(text) if text.is_empty() => Err("an empty text"),
            Value::String(text) => Ok(Self::Text(text.clone())),
            Value::Bool(value) => Ok(Self::Bool(*value)),
            Value::Number(_) => Number::from_json(value, MAX_DECIMALS)
                .map(Self::Number)
                .map_err(|_| "a number with more than 6 decimals"),
            Value::Null | Value::Array(_) | Value::Object(_) => Err("neither a text nor a number"),
        }
    }

    fn at(&self, index: usize) -> &Self {
        match self {
            Self::List(values) if !values.is_empty() => &values[index % values.len()],
            value => value,
        }
    }

    pub(crate) fn text(&self, index: usize) -> String {
        match self.at(index) {
            Self::Text(text) => text.clone(),
            Self::Number(number) => number.to_string(),
            Self::Bool(value) => value.to_string(),
            Self::List(_) => String::new(),
        }
    }

    pub(crate) fn json(&self, index: usize) -> Value {
        match self.at(index) {
            Self::Text(text) => text.as_str().into(),
            Self::Number(number) => number.to_json(),
            Self::Bool(value) => (*value).into(),
            Self::List(_) => Value::Null,
        }
    }
}

impl Variables {
    pub(crate) fn set(&mut self, name: &str, value: Variable) {
        self.0.insert(name.to_owned(), value);
    }

    pub(crate) fn set_number(&mut self, name: &str, number: impl Into<Number>) {
        self.set(name, Variable::Number(number.into()));
    }

    /// Adds a value to a list.
    pub(crate) fn push(&mut self, name: &str, value: Variable) {
        match self.0.get_mut(name) {
            Some(Variable::List(values)) => Arc::make_mut(values).push(value),
            _ => self.set(name, Variable::List(Arc::new(vec![value]))),
        }
    }

    /// Adds variables. The values of their lists are added to those of the same name.
    pub(crate) fn append(&mut self, others: Self) {
        for (name, value) in others.0 {
            match value {
                Variable::List(values) => values.iter().for_each(|value| self.push(&name, value.clone())),
                value => self.set(&name, value),
            }
        }
    }

    /// These variables without the lists.
    pub(crate) fn without_lists(&self) -> Self {
        let others = self.0.iter().filter(|(_, value)| !matches!(value, Variable::List(_)));
        Self(others.map(|(name, value)| (name.clone(), value.clone())).collect())
    }

    /// The values of a list.
    pub(crate) fn list(&self, name: &str) -> &[Variable] {
        match self.0.get(name) {
            Some(Variable::List(values)) => values,
            _ => &[],
        }
    }

    /// # Errors
    ///
    /// If there is no such variable.
    pub(crate) fn get(&self, name: &str) -> Result<&Variable, String> {
        self.0.get(name).ok_or_else(|| format!("the variable {{{name}}} has no value yet"))
    }

    /// # Errors
    ///
    /// If the variable is no number.
    pub(crate) fn number(&self, name: &str) -> Result<Number, String> {
        match self.get(name)? {
            Variable::Number(number) => Ok(*number),
            Variable::Text(_) | Variable::Bool(_) | Variable::List(_) => {
                Err(format!("the variable {{{name}}} is no number"))
            }
        }
    }

    /// The number of values of a list; 1 for any other variable.
    pub(crate) fn len(&self, name: &str) -> usize {
        match self.0.get(name) {
            Some(Variable::List(values)) => values.len(),
            _ => 1,
        }
    }
}
