//! The report.

use end_to_end::measure::quantile;
use end_to_end::table::count;

use crate::idle::CONNECTIONS;
use crate::load::{LOADS, Load, Round};
use crate::{Contender, Flags};

/// The median over the rounds.
fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    quantile(&values, 0.5)
}

impl Contender {
    fn median(&self, load: usize, of: fn(&Round) -> f64) -> f64 {
        median(self.rounds.iter().map(|round| of(&round[load])))
    }

    /// What it adds to the backend alone, measured beside it in the same round.
    fn added(&self, direct: &Self, load: usize, of: fn(&Round) -> f64) -> f64 {
        let rounds = self.rounds.iter().zip(&direct.rounds);
        median(rounds.map(|(round, direct)| of(&round[load]) - of(&direct[load])))
    }
}

pub(crate) fn print(contenders: &[Contender], flags: &Flags, (before, after): (f64, f64)) {
    let [direct, ours, nginx] = contenders else { return };
    let Flags { rounds, round, workers } = flags;
    println!(
        "{rounds} rounds of {} of each load on each server, in turns; medians of the rounds. Debian's nginx 1.22 and the \
         proxy both have {workers} workers, keep their connections to the backend, and write no access log. The load \
         (wrk, one thread), the backend (an nginx with one worker and one constant answer) and the proxy share the \
         machine, whose load average was {before:.1} at the beginning and {after:.1} at the end, the benchmark's own load \
         included.\n",
        humantime::format_duration(*round),
    );
    println!("### Added latency: txnscope proxy vs. nginx\n");
    println!(
        "What a proxy adds to the latency of the backend alone, with 2,000 requests a second on all connections together, \
         and as fast as it goes on one.\n"
    );
    println!(
        "| connections | backend alone, p50 | txnscope adds | nginx adds | ratio | backend alone, p99 | txnscope adds | nginx adds | ratio |"
    );
    println!("| ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |");
    for (index, load) in LOADS.iter().enumerate().filter(|(_, load)| !is_saturated(load)) {
        let cells = |of: fn(&Round) -> f64| {
            let (own, other) = (ours.added(direct, index, of), nginx.added(direct, index, of));
            let direct = direct.median(index, of);
            format!("{direct:.0} µs | {own:.0} µs | {other:.0} µs | {:.2} ×", own / other)
        };
        println!("| {} | {} | {} |", load.connections, cells(|round| round.p50), cells(|round| round.p99));
    }
    println!("\n### Throughput: txnscope proxy vs. nginx\n");
    println!("As many requests as the machine can do.\n");
    println!(
        "| connections | | requests a second | against nginx | processor time of the proxy, each request | p50 | p99 |"
    );
    println!("| ---: | --- | ---: | ---: | ---: | ---: | ---: |");
    for (index, load) in LOADS.iter().enumerate().filter(|(_, load)| is_saturated(load)) {
        for contender in contenders {
            let of = |of: fn(&Round) -> f64| contender.median(index, of);
            let pairs = contender.rounds.iter().zip(&nginx.rounds);
            let ratio = median(pairs.map(|(own, other)| own[index].throughput / other[index].throughput));
            println!(
                "| {} | {} | {} | {ratio:.2} × | {:.1} µs | {:.1} ms | {:.1} ms |",
                load.connections,
                contender.server.name,
                count(of(|round| round.throughput)),
                of(|round| round.cpu),
                of(|round| round.p50) / 1e3,
                of(|round| round.p99) / 1e3,
            );
        }
    }
    println!("\n### Memory of idle connections: txnscope proxy vs. nginx\n");
    println!(
        "Of all processes, resident (and proportional: shared pages divided among the processes that have them), in MB.\n"
    );
    println!(
        "| | without a connection | {CONNECTIONS} idle connections | {CONNECTIONS} idle connections after the load |"
    );
    println!("| --- | ---: | ---: | ---: |");
    for contender in &contenders[1..] {
        let cells = contender.memory.iter();
        let cells: Vec<_> =
            cells.map(|memory| format!("{:.1} ({:.1})", memory.resident, memory.proportional)).collect();
        println!("| {} | {} |", contender.server.name, cells.join(" | "));
    }
}

fn is_saturated(load: &Load) -> bool {
    load.pause == 0 && load.connections > 1
}
