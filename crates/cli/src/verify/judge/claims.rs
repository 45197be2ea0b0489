//! All questions of all operations, and one level of error for them together.

use super::latency::{around, beyond, quantile};
use super::share::{Share, risen, would_be_noticed};
use super::spread::spread;

/// What was counted of one operation in one stretch of time.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Stretch {
    /// Operations that ended, however.
    pub(crate) ended: f64,
    /// Of these, the ones that are ours to mend: failed and panicked.
    pub(crate) failed: f64,
    /// Of those that succeeded, how many took at most so long: one count for each bound, and all of them.
    pub(crate) cumulative: Vec<f64>,
    /// Attempts at a transaction.
    pub(crate) started: f64,
    /// Of these, the ones that were aborted because of a write conflict.
    pub(crate) conflicts: f64,
    /// Of these, the ones that were aborted, for whatever reason.
    pub(crate) aborted: f64,
}

impl Stretch {
    /// Both together.
    pub(crate) fn add(&mut self, other: &Self) {
        self.ended += other.ended;
        self.failed += other.failed;
        self.started += other.started;
        self.conflicts += other.conflicts;
        self.aborted += other.aborted;
        if self.cumulative.len() < other.cumulative.len() {
            self.cumulative.resize(other.cumulative.len(), 0.0);
        }
        self.cumulative.iter_mut().zip(&other.cumulative).for_each(|(sum, count)| *sum += count);
    }
}

/// One operation, before and after.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Operation {
    pub(crate) name: String,
    /// The baseline, in slices as long as each other.
    pub(crate) slices: Vec<Stretch>,
    pub(crate) after: Stretch,
}

impl Operation {
    /// The whole baseline.
    pub(crate) fn before(&self) -> Stretch {
        let mut sum = Stretch::default();
        self.slices.iter().for_each(|slice| sum.add(slice));
        sum
    }
}

/// What is too much, and how sure to be.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Limits {
    /// By how much the share of failures may rise: 0.01 is one in a hundred.
    pub(crate) failures: f64,
    /// How many times as long a quantile may become.
    pub(crate) latency: f64,
    /// By how much the share of attempts that conflict may rise.
    pub(crate) conflicts: f64,
    /// How often, at most, chance alone may make a no-go.
    pub(crate) alpha: f64,
}

/// What a claim is about.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Measure {
    Failures,
    /// That quantile of the duration of what succeeded.
    Latency(f64),
    Conflicts,
}

/// The quantiles that are looked at.
pub(crate) const QUANTILES: [f64; 3] = [0.5, 0.95, 0.99];

/// How a claim came out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Judged {
    /// No worse than the limit, and there was enough traffic to see it if it were.
    Same,
    /// Worse, beyond chance and beyond the limit.
    Worse,
    /// There was too little traffic to say.
    Unknown,
}

/// One question: has this become worse?
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Claim {
    pub(crate) operation: String,
    pub(crate) measure: Measure,
    /// The share, or the seconds, before.
    pub(crate) before: Option<f64>,
    /// And after.
    pub(crate) after: Option<f64>,
    /// How probable it is that chance alone made it so.
    pub(crate) p: f64,
    /// Whether it is beyond the limit.
    risen: bool,
    /// The shares that say how much traffic there is, and the share that a rise worth noticing would have.
    power: (Share, f64, f64),
    pub(crate) judged: Judged,
}

/// The questions of all operations, not yet judged. Without attempts, there is none about conflicts.
pub(crate) fn claims(bounds: &[f64], operations: &[Operation], limits: &Limits) -> Vec<Claim> {
    let mut claims = Vec::new();
    for operation in operations {
        claims.push(of_shares(operation, Measure::Failures, limits.failures, |stretch| {
            Share::new(stretch.failed, stretch.ended)
        }));
        for q in QUANTILES {
            claims.push(of_quantile(bounds, operation, q, limits.latency));
        }
        if operation.before().started > 0.0 {
            claims.push(of_shares(operation, Measure::Conflicts, limits.conflicts, |stretch| {
                Share::new(stretch.conflicts, stretch.started)
            }));
        }
    }
    claims
}

/// Judges them together (Holm's procedure): chance makes one of them `Worse` at most once in 1/alpha times. May be
/// asked again with another `alpha`.
pub(crate) fn judge(claims: &mut [Claim], alpha: f64) {
    let mut order: Vec<usize> = (0..claims.len()).collect();
    order.sort_by(|one, other| claims[*one].p.total_cmp(&claims[*other].p));
    let mut beyond_chance = vec![false; claims.len()];
    #[allow(clippy::cast_precision_loss, reason = "there are some hundreds of claims")]
    let level = |left: usize| alpha / left.max(1) as f64;
    for (place, index) in order.iter().enumerate() {
        if claims[*index].p > level(claims.len() - place) {
            break;
        }
        beyond_chance[*index] = true;
    }
    // A rise that would be found even if every other claim went before it.
    let strict = level(claims.len());
    for (claim, beyond_chance) in claims.iter_mut().zip(beyond_chance) {
        let (before, after, to) = claim.power;
        claim.judged = if beyond_chance && claim.risen {
            Judged::Worse
        } else if would_be_noticed(before, after, to, strict) {
            Judged::Same
        } else {
            Judged::Unknown
        };
    }
}

fn of_shares(operation: &Operation, measure: Measure, limit: f64, of: impl Fn(&Stretch) -> Share) -> Claim {
    let slices: Vec<Share> = operation.slices.iter().map(&of).collect();
    let (before, after) = (of(&operation.before()), of(&operation.after));
    let spread = spread(&slices);
    let (thin_before, thin_after) = (before.thinned(spread), after.thinned(spread));
    let rise = after.ratio().zip(before.ratio()).map(|(after, before)| after - before);
    // A rise of twice the limit is worth being sure about.
    let to = (before.ratio().unwrap_or_default() + 2.0 * limit).min(1.0);
    Claim {
        operation: operation.name.clone(),
        measure,
        before: before.ratio(),
        after: after.ratio(),
        p: self::risen(thin_before, thin_after),
        risen: rise.is_some_and(|rise| rise > limit),
        power: (thin_before, thin_after.of, to),
        judged: Judged::Unknown,
    }
}

fn of_quantile(bounds: &[f64], operation: &Operation, q: f64, limit: f64) -> Claim {
    let (before, after) = (operation.before(), &operation.after);
    let of = |stretch: &Stretch| quantile(bounds, &stretch.cumulative, q);
    let (was, is) = (of(&before), of(after));
    let places = around(bounds, &before.cumulative, q);
    // Two bounds are two chances to be wrong.
    #[allow(clippy::cast_precision_loss, reason = "one or two")]
    let chances = places.len() as f64;
    let (mut p, mut spread_most) = (1.0_f64, 1.0_f64);
    for place in places {
        let at = |stretch: &Stretch| beyond(&stretch.cumulative, place);
        let slices: Vec<Share> = operation.slices.iter().map(at).collect();
        let spread = spread(&slices);
        spread_most = spread_most.max(spread);
        p = p.min(chances * risen(at(&before).thinned(spread), at(after).thinned(spread)));
    }
    let total = |stretch: &Stretch| stretch.cumulative.last().copied().unwrap_or_default() / spread_most;
    let tail = Share::new((1.0 - q) * total(&before), total(&before));
    Claim {
        operation: operation.name.clone(),
        measure: Measure::Latency(q),
        before: was,
        after: is,
        p: p.min(1.0),
        risen: was.zip(is).is_some_and(|(was, is)| is > was * limit),
        // A tail three times as heavy is worth being sure about; half of all can at most become three quarters.
        power: (tail, total(after), (3.0 * (1.0 - q)).min(0.75)),
        judged: Judged::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits = Limits { failures: 0.01, latency: 1.5, conflicts: 0.2, alpha: 0.01 };
    const BOUNDS: [f64; 3] = [0.01, 0.1, 1.0];

    fn stretch(ended: f64, failed: f64) -> Stretch {
        let fast = ended * 0.9;
        let cumulative = vec![fast, ended * 0.995, ended, ended];
        Stretch { ended, failed, cumulative, ..Stretch::default() }
    }

    fn operation(slices: usize, each: Stretch, after: Stretch) -> Operation {
        Operation { name: "a".to_owned(), slices: vec![each; slices], after }
    }

    fn judged(operations: &[Operation]) -> Vec<(Measure, Judged)> {
        let mut claims = claims(&BOUNDS, operations, &LIMITS);
        judge(&mut claims, LIMITS.alpha);
        claims.iter().map(|claim| (claim.measure, claim.judged)).collect()
    }

    #[test]
    fn the_same_is_the_same_and_a_rise_is_a_rise() {
        let same = operation(12, stretch(2_000.0, 10.0), stretch(4_000.0, 20.0));
        assert!(judged(&[same]).iter().all(|(_, judged)| *judged == Judged::Same));
        let worse = operation(12, stretch(2_000.0, 10.0), stretch(4_000.0, 100.0));
        let judged = judged(&[worse]);
        assert_eq!(judged[0], (Measure::Failures, Judged::Worse));
        assert!(judged[1..].iter().all(|(_, judged)| *judged == Judged::Same), "{judged:?}");
    }

    #[test]
    fn a_certain_rise_below_the_limit_is_none() {
        let little = operation(12, stretch(1e6, 1_000.0), stretch(1e6, 3_000.0));
        assert_eq!(judged(&[little])[0].1, Judged::Same);
    }

    #[test]
    fn little_traffic_is_its_own_verdict() {
        let rare = operation(12, stretch(2.0, 0.0), stretch(3.0, 1.0));
        assert!(judged(&[rare]).iter().all(|(_, judged)| *judged == Judged::Unknown));
        let broken = operation(12, stretch(20.0, 0.0), stretch(30.0, 30.0));
        assert_eq!(judged(&[broken])[0].1, Judged::Worse, "all of few failed: certain all the same");
        let silent = operation(12, stretch(2_000.0, 10.0), Stretch::default());
        assert!(judged(&[silent]).iter().all(|(_, judged)| *judged == Judged::Unknown));
        let new = operation(0, Stretch::default(), stretch(2_000.0, 10.0));
        assert!(judged(&[new]).iter().all(|(_, judged)| *judged == Judged::Unknown));
    }

    #[test]
    fn bursts_of_before_excuse_one_of_after() {
        let mut bursty = operation(12, stretch(1_000.0, 0.0), stretch(1_000.0, 60.0));
        let even = {
            let mut even = bursty.clone();
            even.slices.iter_mut().for_each(|slice| slice.failed = 10.0);
            even
        };
        bursty.slices[3].failed = 60.0;
        bursty.slices[9].failed = 60.0;
        assert_eq!(judged(&[even])[0].1, Judged::Worse);
        assert_ne!(judged(&[bursty])[0].1, Judged::Worse);
    }

    #[test]
    fn a_heavy_tail_is_found_at_its_quantile() {
        let mut slow = operation(12, stretch(2_000.0, 0.0), stretch(4_000.0, 0.0));
        slow.after.cumulative = vec![3_600.0, 3_800.0, 4_000.0, 4_000.0];
        let judged = judged(&[slow]);
        assert!(judged.contains(&(Measure::Latency(0.99), Judged::Worse)), "{judged:?}");
        assert!(judged.contains(&(Measure::Latency(0.5), Judged::Same)), "{judged:?}");
    }

    #[test]
    fn conflicts_are_asked_about_where_there_are_attempts() {
        let mut contended = operation(12, stretch(2_000.0, 0.0), stretch(4_000.0, 0.0));
        contended.slices.iter_mut().for_each(|slice| (slice.started, slice.conflicts) = (2_100.0, 100.0));
        (contended.after.started, contended.after.conflicts) = (8_000.0, 4_000.0);
        assert_eq!(judged(&[contended]).last(), Some(&(Measure::Conflicts, Judged::Worse)));
    }
}
