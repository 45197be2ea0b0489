//! `txnscope top` in a terminal, with a given number of open transactions: what it costs the server, and its own time and
//! memory. With `--for`, its memory over a long time, while other transactions begin and end.

use std::fs::File;
use std::io::Read as _;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use end_to_end::measure;
use mongodb::bson::doc;
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};
use tempfile::TempDir;
use testkit::Process;
use tokio::time::{Instant, interval, sleep};

use crate::sidecar::program;
use crate::{Environment, Work};

/// How long each level is measured at least, and the server without `top`.
const MEASURED: Duration = Duration::from_secs(40);
/// How many polls are measured at least. `top` pauses for longer after a poll that took the member long.
const POLLS: i64 = 10;
/// How long a level may take.
const LIMIT: Duration = Duration::from_secs(30 * 60);
/// The time for connecting and for the first polls, which are not measured.
const SETTLED: Duration = Duration::from_secs(10);
/// Polls of `$currentOp` are recognized by the command that only they send.
const OF_A_POLL: &str = "lockInfo";

/// `top` in a terminal of its own, in which nothing is typed.
struct Top {
    process: Process,
    _folder: TempDir,
}

impl Top {
    async fn start(env: &Environment<'_>) -> Result<Self> {
        let controller = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY)?;
        grantpt(&controller)?;
        unlockpt(&controller)?;
        tcsetwinsize(&controller, Winsize { ws_row: 50, ws_col: 200, ws_xpixel: 0, ws_ypixel: 0 })?;
        let name = ptsname(&controller, Vec::new())?.into_string()?;
        let terminal =
            File::options().read(true).write(true).open(&name).context("cannot open the terminal")?;
        let folder = TempDir::new()?;
        let arguments = ["top".to_owned(), "--mongodb.uri".to_owned(), env.set.uri()];
        let input = terminal.try_clone()?;
        let process = Process::spawn_with(&program()?, &arguments, folder.path().join("log"), |command| {
            command.stdin(input).stdout(terminal);
        })
        .await?;
        // What is drawn must be read, or the terminal blocks.
        let mut screen = File::from(controller);
        std::thread::spawn(move || {
            let mut buffer = [0; 64 * 1024];
            while matches!(screen.read(&mut buffer), Ok(1..)) {}
        });
        let mut top = Self { process, _folder: folder };
        sleep(SETTLED).await;
        top.process.check()?;
        Ok(top)
    }
}

/// The state of both processes at one moment.
struct Moment {
    at: Instant,
    mongod: f64,
    top: f64,
    polls: i64,
}

impl Moment {
    async fn of(env: &Environment<'_>, top: Option<&Top>) -> Result<Self> {
        let status = env.client.database("admin").run_command(doc! {"serverStatus": 1}).await?;
        let polls = status.get_document("metrics")?.get_document("commands")?.get_document(OF_A_POLL)?;
        let of_top = top.map(|top| measure::on_processor(top.process.pid())).transpose()?;
        Ok(Self {
            at: Instant::now(),
            mongod: measure::on_processor(env.pid())?,
            top: of_top.unwrap_or(0.0),
            polls: polls.get_i64("total")?,
        })
    }
}

/// One number of open transactions.
struct Level {
    open: usize,
    /// Polls per second.
    polls: f64,
    /// CPU milliseconds of mongod for each poll, without its own background work.
    each: f64,
    /// Parts of one core, in percent.
    mongod: f64,
    top: f64,
    /// Megabytes.
    resident: f64,
}

impl Level {
    #[allow(clippy::cast_precision_loss, reason = "some dozen polls")]
    async fn measure(env: &Environment<'_>, open: usize) -> Result<Self> {
        let before = Moment::of(env, None).await?;
        sleep(MEASURED).await;
        let after = Moment::of(env, None).await?;
        let own = (after.mongod - before.mongod) / (after.at - before.at).as_secs_f64();

        let top = Top::start(env).await?;
        let before = Moment::of(env, Some(&top)).await?;
        let after = loop {
            sleep(MEASURED).await;
            let now = Moment::of(env, Some(&top)).await?;
            if now.polls - before.polls >= POLLS {
                break now;
            }
            let waited = now.at - before.at;
            ensure!(waited < LIMIT, "top has polled {} times in {waited:?}", now.polls - before.polls);
        };
        let seconds = (after.at - before.at).as_secs_f64();
        let polls = (after.polls - before.polls) as f64;
        let mongod = after.mongod - before.mongod - own * seconds;
        Ok(Self {
            open,
            polls: polls / seconds,
            each: mongod / polls,
            mongod: mongod / seconds / 10.0,
            top: (after.top - before.top) / seconds / 10.0,
            resident: measure::resident(top.process.pid())?,
        })
    }
}

pub(crate) async fn report(env: &Environment<'_>, work: Work, watch: Option<Duration>) -> Result<()> {
    println!(
        "`txnscope top` at its default interval of one second, in a terminal of 200 columns and 50 rows, for at least \
         {} s and {POLLS} polls each; the mean. mongod's own background work, measured for the same time without `top`, is taken off.\n",
        MEASURED.as_secs()
    );
    println!(
        "| open transactions | polls per second | mongod, one poll | mongod, of one core | `top`, of one core | `top`, \
         resident |\n| ---: | ---: | ---: | ---: | ---: | ---: |"
    );
    let mut open = Vec::new();
    for wanted in work.open {
        env.open(&mut open, wanted).await?;
        let Level { open, polls, each, mongod, top, resident } = Level::measure(env, wanted).await?;
        println!("| {open} | {polls:.2} | {each:.1} ms | {mongod:.1} % | {top:.1} % | {resident:.1} MB |");
    }
    println!();
    if let Some(time) = watch {
        memory(env, time, open.len()).await?;
    }
    for mut session in open {
        session.abort_transaction().await?;
    }
    Ok(())
}

/// Watches the memory of `top`, in ten parts of the time.
async fn memory(env: &Environment<'_>, time: Duration, open: usize) -> Result<()> {
    let top = Top::start(env).await?;
    let (mut committed, mut rows) = (0_u64, Vec::new());
    let items = env.client.database("bench").collection("items");
    let mut next = interval(Duration::from_millis(100));
    let began = Instant::now();
    for part in 0..=10_u32 {
        while began.elapsed() < time * part / 10 {
            next.tick().await;
            let mut session = env.client.start_session().await?;
            session.start_transaction().await?;
            items.insert_one(doc! {"n": 0}).session(&mut session).await?;
            // It is open for longer than one interval now and then, so that `top` sees it.
            if committed.is_multiple_of(20) {
                sleep(Duration::from_millis(1_500)).await;
            }
            session.commit_transaction().await?;
            committed += 1;
        }
        let pid = top.process.pid();
        rows.push((began.elapsed(), committed, measure::resident(pid)?, measure::on_processor(pid)?));
    }

    println!(
        "The memory of one `top` with {open} open transactions, while others begin and are committed:\n"
    );
    println!(
        "| after | committed meanwhile | resident | `top` on the processor |\n| ---: | ---: | ---: | ---: |"
    );
    for (after, committed, resident, on_processor) in rows {
        let minutes = after.as_secs_f64() / 60.0;
        println!("| {minutes:.1} min | {committed} | {resident:.1} MB | {:.1} s |", on_processor / 1e3);
    }
    println!();
    Ok(())
}
