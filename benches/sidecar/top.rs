//! `txnscope top` in a terminal, with a given number of open transactions: what it costs the server, and its own time and
//! memory.

use std::fs::File;
use std::io::Read as _;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use end_to_end::measure;
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};
use tempfile::TempDir;
use testkit::Process;
use tokio::time::{Instant, sleep};

use crate::one_poll::{one_poll, polls};
use crate::sidecar::program;
use crate::{Environment, Work};

/// How long `top` is watched at each level at least, and the server with polls and without.
const MEASURED: Duration = Duration::from_secs(60);
/// How many polls are measured at least. `top` pauses for longer after a poll that took the member long.
const POLLS: i64 = 5;
/// How long a level may take.
const LIMIT: Duration = Duration::from_secs(30 * 60);
/// The time for connecting and for the first polls, which are not measured.
const SETTLED: Duration = Duration::from_secs(10);

/// `top` in a terminal of its own, in which nothing is typed.
pub(crate) struct Top {
    pub(crate) process: Process,
    _folder: TempDir,
}

impl Top {
    pub(crate) async fn start(env: &Environment<'_>) -> Result<Self> {
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

/// One number of open transactions.
struct Level {
    open: usize,
    /// Polls per second.
    polls: f64,
    /// CPU milliseconds of mongod for each poll, without its own background work.
    each: f64,
    /// Part of one core, in percent.
    top: f64,
    /// Megabytes.
    resident: f64,
}

impl Level {
    #[allow(clippy::cast_precision_loss, reason = "some dozen polls")]
    async fn measure(env: &Environment<'_>, open: usize) -> Result<Self> {
        let before = measure::on_processor(env.pid())?;
        sleep(MEASURED).await;
        let alone = measure::on_processor(env.pid())? - before;
        let each = one_poll(&env.client, &env.set.uri(), env.pid(), alone, MEASURED).await?;

        let top = Top::start(env).await?;
        let pid = top.process.pid();
        let (began, polls_before, before) =
            (Instant::now(), polls(&env.client).await?, measure::on_processor(pid)?);
        let polled = loop {
            sleep(MEASURED).await;
            let polled = polls(&env.client).await? - polls_before;
            if polled >= POLLS {
                break polled;
            }
            ensure!(began.elapsed() < LIMIT, "top has polled {polled} times in {:?}", began.elapsed());
        };
        let seconds = began.elapsed().as_secs_f64();
        let of_top = measure::on_processor(pid)? - before;
        let polls = polled as f64 / seconds;
        Ok(Self { open, polls, each, top: of_top / seconds / 10.0, resident: measure::resident(pid)? })
    }
}

pub(crate) async fn report(env: &Environment<'_>, work: Work) -> Result<()> {
    println!(
        "`txnscope top` at its default interval of one second, in a terminal of 200 columns and 50 rows, for at least {} s and {POLLS} \
         polls. One poll is measured with as many polls as possible for {} s, without mongod's own background work.\n",
        MEASURED.as_secs(),
        MEASURED.as_secs()
    );
    println!(
        "| open transactions | polls per second | mongod, one poll | mongod, of one core | `top`, of one core | `top`, \
         resident |\n| ---: | ---: | ---: | ---: | ---: | ---: |"
    );
    let mut open = Vec::new();
    for wanted in work.open {
        env.open(&mut open, wanted).await?;
        let Level { open, polls, each, top, resident } = Level::measure(env, wanted).await?;
        let mongod = polls * each / 10.0;
        println!("| {open} | {polls:.2} | {each:.1} ms | {mongod:.1} % | {top:.1} % | {resident:.1} MB |");
    }
    for mut session in open {
        session.abort_transaction().await?;
    }
    Ok(())
}
