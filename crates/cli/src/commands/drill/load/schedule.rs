//! Which request each arrival sends.

/// A cycle of requests, in which each has a number of places.
#[derive(Debug, Clone)]
pub(crate) struct Schedule(Vec<usize>);

impl Schedule {
    /// Spreads the requests evenly: the next is always the one that is furthest behind its weight. No weight is zero.
    pub(crate) fn new(weights: &[usize]) -> Self {
        let all: usize = weights.iter().sum();
        let mut counts = vec![0; weights.len()];
        let mut cycle = Vec::with_capacity(all);
        for place in 1..=all {
            // The first of several that are equally far behind.
            let lag = |index: usize| {
                let due = i128::try_from(place * weights[index]).unwrap_or(i128::MAX);
                let sent = i128::try_from(counts[index] * all).unwrap_or(i128::MAX);
                due - sent
            };
            let next = (0..weights.len()).rev().max_by_key(|index| lag(*index)).unwrap_or(0);
            counts[next] += 1;
            cycle.push(next);
        }
        Self(cycle)
    }

    /// The index of the request.
    pub(crate) fn request(&self, arrival: u64) -> usize {
        self.0[self.place(arrival)]
    }

    /// The number of earlier arrivals with the same request.
    pub(crate) fn earlier(&self, arrival: u64) -> u64 {
        let place = self.place(arrival);
        let request = self.0[place];
        let count = |cycle: &[usize]| cycle.iter().filter(|index| **index == request).count() as u64;
        arrival / self.0.len() as u64 * count(&self.0) + count(&self.0[..place])
    }

    fn place(&self, arrival: u64) -> usize {
        usize::try_from(arrival % self.0.len() as u64).unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_spread_by_weight() {
        let schedule = Schedule::new(&[2, 1, 2]);
        let requests: Vec<_> = (0..10).map(|arrival| schedule.request(arrival)).collect();
        assert_eq!(requests, [0, 2, 1, 0, 2, 0, 2, 1, 0, 2]);
        for request in 0..3 {
            let arrivals = (0..1_000).filter(|arrival| schedule.request(*arrival) == request);
            let earlier: Vec<_> = arrivals.map(|arrival| schedule.earlier(arrival)).collect();
            assert_eq!(
                earlier,
                (0..earlier.len() as u64).collect::<Vec<_>>(),
                "each arrival has its own number"
            );
        }
        assert_eq!(Schedule::new(&[1]).earlier(7), 7);
    }
}
