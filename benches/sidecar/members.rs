//! The cost of the sidecar by the number of watched members.

use std::time::Duration;

use anyhow::Result;
use end_to_end::measure;
use testkit::ReplicaSet;
use tokio::time::{Instant, sleep};

use crate::sidecar::Sidecar;
use crate::{Work, scrapes};

const MEMBERS: [u8; 3] = [1, 3, 5];

/// Slow enough for five servers on a small machine.
const INTERVAL: Duration = Duration::from_millis(200);

pub(crate) async fn report(work: Work) -> Result<()> {
    println!("### Members\n");
    println!(
        "Whole replica sets with nothing to do, each member polled every {} ms.\n",
        INTERVAL.as_millis()
    );
    println!(
        "| members | sidecar, one poll of all of them | series | page | p50 of a scrape | p99 | resident |"
    );
    println!("| ---: | ---: | ---: | ---: | ---: | ---: | ---: |");
    for members in MEMBERS {
        let set = ReplicaSet::start(members).await?;
        let sidecar = Sidecar::start(&set.uri(), usize::from(members), INTERVAL, &[]).await?;
        let pid = sidecar.process.pid();
        // The setup of the first polls is not measured.
        sleep(INTERVAL * 10).await;
        let (begin, before) = (Instant::now(), measure::on_processor(pid)?);
        sleep(INTERVAL * u32::try_from(work.polls)?).await;
        let rounds = begin.elapsed().as_secs_f64() / INTERVAL.as_secs_f64();
        let each = (measure::on_processor(pid)? - before) / rounds;
        let series = sidecar.page().await?.lines().filter(|line| !line.starts_with('#')).count();
        let scrapes = scrapes::scrape(&sidecar.address, pid, work.scrapes / 10).await?;
        #[allow(clippy::cast_precision_loss, reason = "numbers that are printed")]
        let kilobytes = scrapes.bytes as f64 / 1e3;
        println!(
            "| {members} | {each:.2} ms | {series} | {kilobytes:.0} kB | {:.2} ms | {:.2} ms | {:.1} MB |",
            scrapes.p50 * 1e3,
            scrapes.p99 * 1e3,
            measure::resident(pid)?
        );
    }
    println!();
    Ok(())
}
