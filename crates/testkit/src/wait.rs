//! Waits for conditions, without fixed sleeps.

use std::time::Duration;

use anyhow::{Error, Result, anyhow};
use tokio::time::{Instant, sleep};

/// The time limit of a condition, far above what any condition needs: it ends a hanging test and measures nothing.
pub const LIMIT: Duration = Duration::from_secs(60);

/// The shortest pause between two attempts.
const PAUSE: Duration = Duration::from_millis(20);

/// The pause after an expensive attempt is this many times as long as the attempt took, up to [`LONGEST_PAUSE`].
/// Otherwise tests that wait for a page take the processor from the programs that they wait for.
const PAUSE_FACTOR: u32 = 6;

const LONGEST_PAUSE: Duration = Duration::from_millis(500);

/// Retries until `attempt` succeeds, and returns its result. An error of `attempt` describes the state instead of the
/// expected condition.
///
/// # Errors
///
/// If no attempt has succeeded within [`LIMIT`]; the message contains the last error.
pub async fn until<T, F>(what: &str, attempt: F) -> Result<T>
where
    F: AsyncFnMut() -> Result<T>,
{
    until_within(LIMIT, what, attempt).await
}

/// As [`until`], with a custom limit.
///
/// # Errors
///
/// If it has not succeeded after `limit`.
pub async fn until_within<T, F>(limit: Duration, what: &str, mut attempt: F) -> Result<T>
where
    F: AsyncFnMut() -> Result<T>,
{
    let end = Instant::now() + limit;
    let mut near: Option<Error> = None;
    loop {
        let start = Instant::now();
        match tokio::time::timeout_at(end, attempt()).await {
            Ok(Ok(found)) => return Ok(found),
            Ok(Err(error)) => near = Some(error),
            Err(_) => near = near.or_else(|| Some(anyhow!("the first attempt did not come back"))),
        }
        let pause = (start.elapsed() * PAUSE_FACTOR).clamp(PAUSE, LONGEST_PAUSE);
        if Instant::now() + pause >= end {
            let near = near.unwrap_or_else(|| anyhow!("nothing"));
            return Err(anyhow!("waited {limit:?} for {what}; the last error: {near:#}"));
        }
        sleep(pause).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // On a paused clock the limit is a fixed number of attempts, however busy the machine is.
    #[tokio::test(start_paused = true)]
    async fn timeout_reports_last_error() {
        let mut balance = 7;
        let waited = until_within(Duration::from_millis(100), "a balance of zero", async || {
            balance -= 1;
            if balance >= 5 {
                Err(anyhow!("it was {balance}"))
            } else {
                Err::<(), _>(anyhow!("then it was {balance}"))
            }
        });
        let error = waited.await.unwrap_err().to_string();
        // Tries after 0, 20, 40, 60 and 80 ms.
        assert!(error.contains("a balance of zero") && error.contains("then it was 2"), "{error}");
    }

    #[tokio::test(start_paused = true)]
    async fn hanging_attempt_times_out() {
        let waited = until_within(Duration::from_millis(50), "an answer", async || {
            std::future::pending::<()>().await;
            Ok(())
        });
        assert!(waited.await.unwrap_err().to_string().contains("did not come back"));
    }
}
