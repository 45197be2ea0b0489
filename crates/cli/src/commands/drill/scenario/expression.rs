//! Expressions of numbers: `{start} - {succeeded} * 10`.

use std::fmt;

use serde::de::{self, Deserialize, Deserializer, Visitor};

use crate::commands::drill::scenario::number::{MAX_DECIMALS, Number};

/// The maximum length in bytes, which also bounds the depth.
const MAX_LENGTH: usize = 500;

/// An expression of numbers, variables in braces, `+ - * / ( )`, and `min`, `max` and `floor`.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Expression(Node);

#[derive(Debug, Clone, PartialEq)]
enum Node {
    Number(Number),
    Variable(String),
    Operation(Operator, Vec<Node>),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Operator {
    Add,
    Subtract,
    Multiply,
    Divide,
    Min,
    Max,
    Floor,
}

impl Expression {
    /// # Errors
    ///
    /// If the text is no expression. The message quotes nothing.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        if text.len() > MAX_LENGTH {
            return Err(format!("the expression is longer than {MAX_LENGTH} bytes"));
        }
        let mut parser = Parser { rest: text.trim_start() };
        let node = parser.sum()?;
        match parser.rest {
            "" => Ok(Self(node)),
            _ => {
                Err("the expression has something after its end: write an operator between two values"
                    .to_owned())
            }
        }
    }

    /// The variables, in the order of the text.
    pub(crate) fn variables(&self) -> Vec<&str> {
        fn collect<'a>(node: &'a Node, into: &mut Vec<&'a str>) {
            match node {
                Node::Number(_) => {}
                Node::Variable(name) => into.push(name),
                Node::Operation(_, operands) => operands.iter().for_each(|operand| collect(operand, into)),
            }
        }
        let mut names = Vec::new();
        collect(&self.0, &mut names);
        names
    }

    /// # Errors
    ///
    /// If a variable has no number, or a result is out of range.
    pub(crate) fn evaluate(&self, value: &dyn Fn(&str) -> Result<Number, String>) -> Result<Number, String> {
        self.0.evaluate(value)
    }
}

impl Node {
    fn evaluate(&self, value: &dyn Fn(&str) -> Result<Number, String>) -> Result<Number, String> {
        let (operator, operands) = match self {
            Self::Number(number) => return Ok(*number),
            Self::Variable(name) => return value(name),
            Self::Operation(operator, operands) => (*operator, operands),
        };
        let mut operands = operands.iter().map(|operand| operand.evaluate(value));
        let first = operands.next().unwrap_or(Ok(Number::ZERO))?;
        if operator == Operator::Floor {
            return Ok(first.floor());
        }
        operands.try_fold(first, |left, right| {
            let right = right?;
            let result = match operator {
                Operator::Add => left.checked_add(right),
                Operator::Subtract => left.checked_sub(right),
                Operator::Multiply => left.checked_mul(right),
                Operator::Divide => left.checked_div(right),
                Operator::Min => Some(left.min(right)),
                Operator::Max | Operator::Floor => Some(left.max(right)),
            };
            result.ok_or_else(|| "an expression divides by zero, or its result is too large".to_owned())
        })
    }
}

struct Parser<'a> {
    /// The rest of the text, without spaces at its beginning.
    rest: &'a str,
}

impl Parser<'_> {
    fn take(&mut self, symbol: char) -> bool {
        let Some(rest) = self.rest.strip_prefix(symbol) else { return false };
        self.rest = rest.trim_start();
        true
    }

    fn sum(&mut self) -> Result<Node, String> {
        let mut left = self.product()?;
        loop {
            let operator = match self.rest.chars().next() {
                Some('+') => Operator::Add,
                Some('-') => Operator::Subtract,
                _ => return Ok(left),
            };
            self.rest = self.rest[1..].trim_start();
            left = Node::Operation(operator, vec![left, self.product()?]);
        }
    }

    fn product(&mut self) -> Result<Node, String> {
        let mut left = self.factor()?;
        loop {
            let operator = match self.rest.chars().next() {
                Some('*') => Operator::Multiply,
                Some('/') => Operator::Divide,
                _ => return Ok(left),
            };
            self.rest = self.rest[1..].trim_start();
            left = Node::Operation(operator, vec![left, self.factor()?]);
        }
    }

    fn factor(&mut self) -> Result<Node, String> {
        if self.take('-') {
            return Ok(Node::Operation(Operator::Subtract, vec![Node::Number(Number::ZERO), self.factor()?]));
        }
        if self.take('(') {
            let inner = self.sum()?;
            return self.close(inner);
        }
        if self.take('{') {
            let (name, rest) =
                self.rest.split_once('}').ok_or("the expression has a brace that is not closed")?;
            self.rest = rest.trim_start();
            return Ok(Node::Variable(name.trim().to_owned()));
        }
        let end =
            self.rest.find(|c: char| !(c.is_ascii_alphanumeric() || c == '.')).unwrap_or(self.rest.len());
        let (word, rest) = self.rest.split_at(end);
        self.rest = rest.trim_start();
        let operator = match word {
            "min" => Operator::Min,
            "max" => Operator::Max,
            "floor" => Operator::Floor,
            "" => return Err("the expression has no value where one is due".to_owned()),
            _ => {
                let number = Number::parse(word, MAX_DECIMALS).ok_or(
                    "the expression has a word that is no number: a variable is written in braces, and functions are min, max and floor",
                )?;
                return Ok(Node::Number(number));
            }
        };
        if !self.take('(') {
            return Err("a function needs its values in parentheses".to_owned());
        }
        let mut operands = vec![self.sum()?];
        while self.take(',') {
            operands.push(self.sum()?);
        }
        if (operator == Operator::Floor) != (operands.len() == 1) {
            return Err("floor takes one value, and min and max take two or more".to_owned());
        }
        self.close(Node::Operation(operator, operands))
    }

    fn close(&mut self, node: Node) -> Result<Node, String> {
        if self.take(')') {
            Ok(node)
        } else {
            Err("the expression has a parenthesis that is not closed".to_owned())
        }
    }
}

/// A text, or a number of TOML.
impl<'de> Deserialize<'de> for Expression {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Source;
        impl Visitor<'_> for Source {
            type Value = Expression;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a number or an expression in quotes")
            }

            fn visit_i64<E: de::Error>(self, number: i64) -> Result<Expression, E> {
                self.visit_str(&number.to_string())
            }

            fn visit_f64<E: de::Error>(self, number: f64) -> Result<Expression, E> {
                self.visit_str(&number.to_string())
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Expression, E> {
                Expression::parse(text).map_err(E::custom)
            }
        }
        deserializer.deserialize_any(Source)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn evaluate(text: &str) -> Result<String, String> {
        let value = |name: &str| match name {
            "start" => Ok(Number::from(1_000)),
            "n" => Ok(Number::from(7)),
            _ => Err(format!("no {name}")),
        };
        Ok(Expression::parse(text)?.evaluate(&value)?.to_string())
    }

    #[test]
    fn expressions_follow_the_usual_precedence() {
        for (text, expected) in [
            ("1", "1"),
            ("{start} - {n} * 10", "930"),
            ("({start} - {n}) * -2", "-1986"),
            ("10 - 3 - 2", "5"),
            ("{n} / 2", "3.50"),
            ("floor({n} / 2) * 100 + 50", "350"),
            ("min({n}, 1) + max(1, 2, { n })", "8"),
            (" - 7.25 + 1 ", "-6.25"),
        ] {
            assert_eq!(evaluate(text).as_deref(), Ok(expected), "{text}");
        }
        assert_eq!(Expression::parse("{a} + min({b.c}, 2)").unwrap().variables(), ["a", "b.c"]);
    }

    #[test]
    fn malformed_expressions_are_errors() {
        for text in [
            "",
            "1 +",
            "1 2",
            "{a",
            "(1",
            "start",
            "min(1)",
            "floor(1, 2)",
            "min 1",
            "1 / 0",
            "{x}",
            "0.1234567",
            "1 % 2",
        ] {
            let error = evaluate(text).unwrap_err();
            assert!(!error.contains(['`', '"', '\'']), "{text}: {error}");
        }
        let _ = Expression::parse(&"(".repeat(MAX_LENGTH)).unwrap_err();
        let _ = Expression::parse(&"-".repeat(100_000)).unwrap_err();
    }
}
