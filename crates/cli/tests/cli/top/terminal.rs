//! The view in a real terminal.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::process::Stdio;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use anyhow::ensure;
use mongodb::bson::doc;
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};
use testkit::wait;
use tokio::process::{Child, Command};

use super::Environment;
use crate::common::PROGRAM;

const ROWS: u16 = 30;
const COLUMNS: u16 = 110;
const ENTER: &str = "\u{1b}[?1049h";
const LEAVE: &str = "\u{1b}[?1049l";

/// The program with a terminal of its own.
pub(super) struct Terminal {
    child: Child,
    keys: File,
    output: Arc<Mutex<Vec<u8>>>,
    reader: JoinHandle<()>,
}

impl Terminal {
    pub(super) fn open(arguments: &[&str], environment: &[(&str, &str)]) -> Self {
        let controller = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
        grantpt(&controller).unwrap();
        unlockpt(&controller).unwrap();
        let size = Winsize { ws_row: ROWS, ws_col: COLUMNS, ws_xpixel: 0, ws_ypixel: 0 };
        tcsetwinsize(&controller, size).unwrap();
        let name = ptsname(&controller, Vec::new()).unwrap().into_string().unwrap();
        let terminal = || File::options().read(true).write(true).open(&name).unwrap();
        let child = Command::new(PROGRAM)
            .args(arguments)
            .env_remove("NO_COLOR")
            .envs(environment.iter().copied())
            .stdin(terminal())
            .stdout(terminal())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let keys = File::from(controller);
        let (mut screen, output) = (keys.try_clone().unwrap(), Arc::new(Mutex::new(Vec::new())));
        let read = Arc::clone(&output);
        let reader = std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(length @ 1..) = screen.read(&mut buffer) {
                read.lock().unwrap().extend(&buffer[..length]);
            }
        });
        Self { child, keys, output, reader }
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.output.lock().unwrap()).into_owned()
    }

    /// What is on the screen.
    pub(super) fn screen(&self) -> String {
        screen(&self.text())
    }

    /// Waits until a text is on the screen.
    pub(super) async fn shows(&self, text: &str) {
        wait::until(text, async || {
            let screen = self.screen();
            ensure!(screen.contains(text), "{screen}");
            Ok(())
        })
        .await
        .unwrap();
    }

    pub(super) fn press(&mut self, keys: &str) {
        self.keys.write_all(keys.as_bytes()).unwrap();
    }

    /// Waits for the end, and returns the exit status and all output.
    pub(super) async fn ended(mut self) -> (Option<i32>, String) {
        let status = tokio::time::timeout(wait::LIMIT, self.child.wait()).await.unwrap().unwrap();
        // What was written last may still be on its way to the reader, which ends with the last handle of the terminal.
        wait::until("the end of the output", async || {
            ensure!(self.reader.is_finished(), "{:?}", self.text());
            Ok(())
        })
        .await
        .unwrap();
        (status.code(), self.text())
    }
}

/// What the output leaves on the screen. Only what has changed is written, so a text may come in pieces.
fn screen(output: &str) -> String {
    let mut cells = vec![vec![' '; usize::from(COLUMNS)]; usize::from(ROWS)];
    let (mut row, mut column) = (0, 0);
    let mut rest = output.chars();
    while let Some(c) = rest.next() {
        if c != '\u{1b}' {
            if let Some(cell) = cells.get_mut(row).and_then(|cells| cells.get_mut(column)) {
                *cell = c;
            }
            column += 1;
            continue;
        }
        if rest.next() != Some('[') {
            continue;
        }
        let mut sequence = String::new();
        for c in rest.by_ref() {
            sequence.push(c);
            if c.is_ascii_alphabetic() {
                break;
            }
        }
        if let Some(position) = sequence.strip_suffix('H') {
            let mut numbers = position.split(';').map(|number| number.parse().unwrap_or(1_usize));
            (row, column) = (numbers.next().unwrap_or(1) - 1, numbers.next().unwrap_or(1) - 1);
        }
    }
    cells.into_iter().map(|line| line.into_iter().collect::<String>() + "\n").collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn view_shows_the_transaction_and_restores_the_terminal() {
    let env = Environment::start().await;
    let mut session = env.client.start_session().await.unwrap();
    session.start_transaction().await.unwrap();
    env.orders().update_one(doc! {"_id": 0}, doc! {"$inc": {"n": 1}}).session(&mut session).await.unwrap();
    let uri = env.uri();
    let mut terminal = Terminal::open(&["top", &uri, "--interval=200ms"], &[]);
    terminal.shows("shop.orders").await;
    terminal.press("?");
    terminal.shows("select a row").await;
    terminal.press("q");
    let (status, text) = terminal.ended().await;
    assert_eq!(status, Some(0));
    assert!(text.starts_with(ENTER) && text.contains("\u{1b}[?25h"), "{text:?}");
    assert!(text.rfind(LEAVE) > text.rfind("shop.orders"), "{text:?}");
    assert!(text.contains("\u{1b}[38;5;") || text.contains("\u{1b}[36m"), "it has colors: {text:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn terminal_is_restored_at_a_signal_and_has_no_color_if_asked() {
    let env = Environment::start().await;
    let uri = env.uri();
    let terminal = Terminal::open(&["top", &uri, "--interval=200ms"], &[("NO_COLOR", "1")]);
    terminal.shows("primary").await;
    let pid = rustix::process::Pid::from_raw(terminal.child.id().unwrap().try_into().unwrap()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    let (status, text) = terminal.ended().await;
    assert_eq!(status, Some(0));
    for color in ["\u{1b}[38;", "\u{1b}[48;", "\u{1b}[31m", "\u{1b}[33m", "\u{1b}[36m"] {
        assert!(!text.contains(color), "{color:?}: {text:?}");
    }
}

/// The server passes on what a client calls itself.
#[tokio::test(flavor = "multi_thread")]
async fn name_of_a_client_cannot_steer_the_terminal() {
    let env = Environment::with("evil\u{1b}]0;title\u{7}\u{1b}[2J\u{202e}name").await;
    let mut session = env.client.start_session().await.unwrap();
    session.start_transaction().await.unwrap();
    env.orders().update_one(doc! {"_id": 0}, doc! {"$inc": {"n": 1}}).session(&mut session).await.unwrap();
    let uri = env.uri();
    let mut terminal = Terminal::open(&["top", &uri, "--interval=200ms"], &[]);
    terminal.shows("evil\\u001b]0;title").await;
    terminal.press("q");
    let (_, text) = terminal.ended().await;
    assert!(!text.contains("\u{1b}]0;") && !text.contains('\u{202e}') && !text.contains('\u{7}'), "{text:?}");
}

/// The members are polled in the background: a server that hangs does not keep the keys from working.
#[tokio::test(flavor = "multi_thread")]
async fn view_stays_alive_while_the_server_hangs() {
    let env = Environment::start().await;
    let uri = env.uri();
    let mut terminal = Terminal::open(&["top", &uri, "--interval=200ms", "--timeout=1s"], &[]);
    terminal.shows("primary").await;
    env.set.members()[0].pause().unwrap();
    terminal.shows("does not answer").await;
    terminal.press("?");
    terminal.shows("select a row").await;
    terminal.press("q");
    let (status, _) = terminal.ended().await;
    assert_eq!(status, Some(0));
    env.set.members()[0].resume().unwrap();
}
