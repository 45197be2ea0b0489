//! Random documents with every kind of corruption.

use mongodb::bson::oid::ObjectId;
use mongodb::bson::{Bson, DateTime, Document, doc};

/// A deterministic random number generator.
#[derive(Debug, Clone)]
pub(crate) struct Rng(u64);

impl Rng {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 11
    }

    /// A random number less than `sides`.
    pub(crate) fn roll(&mut self, sides: u64) -> u64 {
        self.next() % sides
    }

    pub(crate) fn one_in(&mut self, sides: u64) -> bool {
        self.roll(sides) == 0
    }

    fn small(&mut self) -> i32 {
        i32::try_from(self.roll(200_000)).unwrap() - 100_000
    }

    /// A random amount of money, in one of the four numeric types.
    pub(crate) fn amount(&mut self) -> Bson {
        let cents = f64::from(self.small()) / 100.0;
        match self.roll(24) {
            0..=5 => Bson::Int64(self.small().into()),
            6..=8 => Bson::Int32(self.small()),
            9..=11 => Bson::Double(self.small().into()),
            12..=14 => Bson::Double(cents),
            15..=17 => decimal(&format!("{cents:.2}")),
            18 => Bson::Int64([i64::MAX, i64::MIN, 1 << 53, (1 << 53) + 1, -(1 << 53) - 1][self.pick(5)]),
            19 => Bson::Int32([i32::MAX, i32::MIN, 0, 1][self.pick(4)]),
            20 => Bson::Double([9_007_199_254_740_992.0, -0.0, 1_234_567_890_123_456.0, 4e18][self.pick(4)]),
            21 => Bson::Double([0.1 + 0.2, 1.0 / 3.0, 1_234_567.89 - 1_234_567.0, 1e-7][self.pick(4)]),
            22 => {
                decimal(["0.000000000000000001", "123456789012345.67", "1E+3", "-0.00", "0E-6"][self.pick(5)])
            }
            _ => Bson::Int64(0),
        }
    }

    fn pick(&mut self, sides: u64) -> usize {
        usize::try_from(self.roll(sides)).unwrap()
    }

    /// A value that is not an amount.
    pub(crate) fn damage(&mut self) -> Option<Bson> {
        Some(match self.roll(22) {
            0 | 1 => return None,
            2 => Bson::Null,
            3 => Bson::Undefined,
            4 | 5 => "100.00".into(),
            6 => "".into(),
            7 => true.into(),
            8 => doc! {"amount": 5}.into(),
            9 => doc! {"$numberLong": "5"}.into(),
            10 => vec![Bson::Int64(5)].into(),
            11 => Bson::Array(Vec::new()),
            12 => DateTime::from_millis(5).into(),
            13 => ObjectId::new().into(),
            14 => f64::NAN.into(),
            15 => f64::INFINITY.into(),
            16 => f64::NEG_INFINITY.into(),
            17 => decimal("NaN"),
            18 => decimal("-Infinity"),
            19 => Bson::MinKey,
            20 => Bson::Symbol("5".into()),
            _ => Bson::Double(1e300),
        })
    }

    /// An entry of a list: one in `ONE_IN` is corrupted.
    fn entry(&mut self, one_in: u64) -> Bson {
        let mut entry = doc! {"n": 1};
        if !self.one_in(one_in) {
            entry.insert("amount", self.amount());
            return entry.into();
        }
        match self.roll(6) {
            0 => 5.into(),
            1 => "5".into(),
            2 => Bson::Null,
            3 => vec![Bson::from(doc! {"amount": 5})].into(),
            _ => {
                entry.extend(self.damage().map(|damage| ("amount".to_owned(), damage)));
                entry.into()
            }
        }
    }

    /// A list of entries, or a corrupted list.
    fn list(&mut self) -> Option<Bson> {
        if self.one_in(25) {
            return match self.roll(6) {
                0 => None,
                1 => Some(doc! {"amount": 5_i64}.into()),
                2 => Some(doc! {"0": {"amount": 5_i64}}.into()),
                _ => self.damage(),
            };
        }
        let length = self.roll(4);
        Some((0..length).map(|_| self.entry(25)).collect::<Vec<_>>().into())
    }

    /// A document with two lists of its own. Its balance is right, nearly right, or arbitrary.
    pub(crate) fn account(&mut self, id: i64) -> Document {
        let mut account = doc! {"_id": id};
        for name in ["in", "out"] {
            account.extend(self.list().map(|list| (name.to_owned(), list)));
        }
        account.extend(self.field().map(|field| ("balance".to_owned(), field)));
        account
    }

    pub(crate) fn field(&mut self) -> Option<Bson> {
        if self.one_in(12) { self.damage() } else { Some(self.amount()) }
    }

    pub(crate) fn line(&mut self, account: i64) -> Document {
        let mut line = doc! {"account": account};
        if self.one_in(25) {
            line.extend(self.damage().map(|damage| ("amount".to_owned(), damage)));
        } else {
            line.insert("amount", self.amount());
        }
        line
    }
}

pub(crate) fn decimal(text: &str) -> Bson {
    Bson::Decimal128(text.parse().unwrap())
}
