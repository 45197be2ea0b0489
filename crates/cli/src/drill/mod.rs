//! `txnscope drill`: real requests to a backend, on data that the drill makes itself, to see what becomes of them.
//!
//! | module | what |
//! | --- | --- |
//! | `race` | many at once on the same money: what may happen once happens once |
//! | `load` | requests at a fixed rate, whether or not the earlier ones are answered |
//! | `backend` | the one URL that a drill speaks to |
//!
//! A drill knows the backend by its HTTP API alone, whatever it is written in.

mod backend;
mod flags;
mod load;
mod money;
mod race;
mod stop;

use std::process::ExitCode;

use anyhow::Context;

pub(crate) use flags::DrillFlags;

use crate::complain;
use crate::drill::flags::Drill;

/// What the drill wanted to see, it saw.
const PROVEN: u8 = 0;
/// It saw something else.
const BROKEN: u8 = 1;
/// It could not see: the command line, the token, the backend, or the time was over.
const UNKNOWN: u8 = 2;

pub(crate) fn run(flags: DrillFlags) -> ExitCode {
    // Several threads: a generator of load that waits for its own decoding would be late for the next arrival.
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let ended = runtime.context("cannot start the runtime").and_then(|runtime| {
        runtime.block_on(async {
            match flags.drill {
                Drill::Race(flags) => race::race(&flags).await,
                Drill::Load(flags) => load::load(&flags).await,
            }
        })
    });
    match ended {
        Ok(code) => ExitCode::from(code),
        Err(error) => complain(&error, UNKNOWN),
    }
}
