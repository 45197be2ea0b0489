//! What follows an upgrade: bytes both ways, until either side ends.

use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::io::copy_bidirectional;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// The connections that speak another protocol by now.
#[derive(Debug, Clone)]
pub(crate) struct Tunnels {
    pub(crate) tasks: TaskTracker,
    /// Cancelled when everything ends.
    pub(crate) end: CancellationToken,
}

impl Tunnels {
    pub(crate) fn open(&self, caller: OnUpgrade, backend: OnUpgrade) {
        let end = self.end.clone();
        self.tasks.spawn(async move {
            let ended = end.run_until_cancelled(tunnel(caller, backend)).await;
            if let Some(Err(error)) = ended {
                tracing::debug!(error = %txnscope::ErrorChain::new(&*error), "a tunnel has ended early");
            }
        });
    }
}

async fn tunnel(
    caller: OnUpgrade,
    backend: OnUpgrade,
) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let (caller, backend) = tokio::try_join!(caller, backend)?;
    copy_bidirectional(&mut TokioIo::new(caller), &mut TokioIo::new(backend)).await?;
    Ok(())
}
