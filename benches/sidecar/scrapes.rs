//! The cost of a scrape.

use std::time::Duration;

use anyhow::{Context, Result, anyhow, ensure};
use end_to_end::measure;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::Instant;
use txnscope_sidecar::{Config, Sidecar};

/// The measurements.
pub(crate) struct Scrapes {
    /// Seconds.
    pub(crate) p50: f64,
    pub(crate) p99: f64,
    /// CPU milliseconds of the server per scrape.
    pub(crate) on_processor: f64,
    /// The size of one page.
    pub(crate) bytes: usize,
}

const REQUEST: &[u8] = b"GET /metrics HTTP/1.1\r\nhost: localhost\r\n\r\n";

/// Scrapes a process a number of times.
pub(crate) async fn scrape(address: &str, pid: u32, times: u32) -> Result<Scrapes> {
    let (mut seconds, mut buffer) = (Vec::new(), vec![0; 1 << 20]);
    let mut stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    let mut bytes = ask(&mut stream, &mut buffer).await?;
    let before = measure::on_processor(pid)?;
    for _ in 0..times {
        let begin = Instant::now();
        bytes = ask(&mut stream, &mut buffer).await?;
        seconds.push(begin.elapsed().as_secs_f64());
    }
    let on_processor = (measure::on_processor(pid)? - before) / f64::from(times);
    seconds.sort_by(f64::total_cmp);
    Ok(Scrapes {
        p50: measure::quantile(&seconds, 0.5),
        p99: measure::quantile(&seconds, 0.99),
        on_processor,
        bytes,
    })
}

/// Sends one request and reads the response without an allocation. Returns the length of the page.
async fn ask(stream: &mut TcpStream, buffer: &mut [u8]) -> Result<usize> {
    stream.write_all(REQUEST).await?;
    let (mut read, mut whole) = (0, None);
    loop {
        let more = stream.read(&mut buffer[read..]).await?;
        ensure!(more > 0, "the connection was closed, or a page is larger than 1 MB");
        read += more;
        if whole.is_none() {
            whole = length(&buffer[..read])?;
        }
        if let Some((head, body)) = whole
            && read >= head + body
        {
            return Ok(body);
        }
    }
}

/// The lengths of head and body, once the head has arrived.
fn length(answer: &[u8]) -> Result<Option<(usize, usize)>> {
    let Some(end) = answer.windows(4).position(|window| window == b"\r\n\r\n") else { return Ok(None) };
    let head = std::str::from_utf8(&answer[..end])?;
    ensure!(head.starts_with("HTTP/1.1 200"), "{head}");
    let mut lines = head.lines();
    let body = lines.find_map(|line| line.strip_prefix("content-length: ")).context("no content-length")?;
    Ok(Some((end + 4, body.parse()?)))
}

/// The number of allocations of a scrape, in a sidecar on this thread.
pub(crate) fn allocations(uri: &str) -> Result<()> {
    const TIMES: u64 = 100;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let mut config = Config::new(uri);
    config.listen_addresses = vec!["127.0.0.1:0".parse()?];
    // No poll may occur in between.
    config.poll_interval = Duration::from_secs(3_600);
    let mut buffer = vec![0; 1 << 20];
    let (sidecar, mut stream) = runtime.block_on(async {
        let sidecar = Sidecar::start(config).await?;
        testkit::wait::until("the first polls", async || {
            let ready = reqwest::get(format!("http://{}/-/ready", sidecar.local_addr())).await?;
            ready.error_for_status().map_err(|error| anyhow!(error))
        })
        .await?;
        let stream = TcpStream::connect(sidecar.local_addr()).await?;
        anyhow::Ok((sidecar, stream))
    })?;
    runtime.block_on(ask(&mut stream, &mut buffer))?;
    let mut outcome = Ok(0);
    let counted = allocation_counter::measure(|| {
        outcome = runtime.block_on(async {
            let mut bytes = 0;
            for _ in 0..TIMES {
                bytes = ask(&mut stream, &mut buffer).await?;
            }
            anyhow::Ok(bytes)
        });
    });
    let bytes = outcome?;
    println!(
        "One scrape of a page of {bytes} bytes allocates {} times, {} kB in all and {} kB at once.\n",
        counted.count_total / TIMES,
        counted.bytes_total / TIMES / 1_000,
        counted.bytes_max / 1_000
    );
    runtime.block_on(sidecar.shutdown());
    Ok(())
}
