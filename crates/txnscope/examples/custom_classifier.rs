//! A classifier of the application's own: names operations and classifies replies of a protocol other than HTTP.
//!
//! ```console
//! $ cargo run --example custom_classifier
//! ```

#![allow(clippy::print_stdout, reason = "the example prints its results")]

use std::convert::Infallible;

use anyhow::Result;
use tower::{Service, ServiceBuilder, ServiceExt, service_fn};
use txnscope::{
    Classification, ClassifyRequest, ClassifyResponse, Metrics, Operation, OperationName, Reason,
    TransactionLayer,
};

const OVER_LIMIT: Reason = Reason::declare("over_limit");

enum Command {
    Deposit { cents: u64 },
    Withdraw { cents: u64 },
    Balance,
}

#[derive(Debug)]
enum Reply {
    Done,
    OverLimit,
    Unavailable,
}

#[derive(Clone)]
struct Commands;

impl ClassifyRequest<Command> for Commands {
    /// Names come from a fixed set. A command without a name is not counted.
    fn operation(&self, command: &Command) -> Option<OperationName<'static>> {
        match command {
            Command::Deposit { .. } => Some(OperationName::named("deposit")),
            Command::Withdraw { .. } => Some(OperationName::named("withdraw")),
            Command::Balance => None,
        }
    }
}

impl<E> ClassifyResponse<Reply, E> for Commands {
    fn response(&self, reply: &Reply) -> Classification {
        match reply {
            Reply::Done => Classification::succeeded(),
            Reply::OverLimit => Classification::rejected(OVER_LIMIT),
            // A reason that the transaction runner noted is more precise.
            Reply::Unavailable => Classification::failed(Reason::OTHER).overridable(),
        }
    }

    fn error(&self, _: &E) -> Classification {
        Classification::failed(Reason::OTHER).overridable()
    }
}

#[tokio::main]
async fn main() -> Result<()> {
    run(Metrics::install()?).await
}

pub(crate) async fn run(metrics: Metrics) -> Result<()> {
    let layer = TransactionLayer::with_classifier_and_registry(Commands, metrics.registry())
        .declare([Operation::new("withdraw").rejection_reasons(&[OVER_LIMIT])]);
    let mut bank = ServiceBuilder::new().layer(layer).service(service_fn(execute));
    for command in [
        Command::Deposit { cents: 100 },
        Command::Withdraw { cents: 90_000 },
        Command::Deposit { cents: 0 },
        Command::Balance,
    ] {
        let reply = bank.ready().await?.call(command).await?;
        println!("{reply:?}");
    }
    for line in metrics.render().lines().filter(|line| line.starts_with("transaction_failures_total")) {
        println!("{line}");
    }
    Ok(())
}

async fn execute(command: Command) -> Result<Reply, Infallible> {
    Ok(match command {
        Command::Withdraw { cents } if cents > 50_000 => Reply::OverLimit,
        Command::Deposit { cents: 0 } => Reply::Unavailable,
        Command::Deposit { .. } | Command::Withdraw { .. } | Command::Balance => Reply::Done,
    })
}
