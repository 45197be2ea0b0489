//! The driver takes one handler of command events, and an application may have one of its own.

use mongodb::event::EventHandler;
use mongodb::event::command::CommandEvent;
use tokio::runtime::Handle;

/// A handler that has each event heard and then gives it to theirs, the way the driver would have.
pub(super) fn before(
    theirs: EventHandler<CommandEvent>,
    hear: impl Fn(&CommandEvent) + Send + Sync + 'static,
) -> EventHandler<CommandEvent> {
    match theirs {
        EventHandler::Callback(theirs) => EventHandler::callback(move |event| {
            hear(&event);
            theirs(event);
        }),
        EventHandler::AsyncCallback(theirs) => EventHandler::callback(move |event| {
            hear(&event);
            spawn(theirs(event));
        }),
        EventHandler::TokioMpsc(theirs) => EventHandler::callback(move |event| {
            hear(&event);
            let theirs = theirs.clone();
            spawn(async move { drop(theirs.send(event).await) });
        }),
        theirs => {
            tracing::error!(
                "transactions are not listened to: the client has a handler of command events of an unknown kind"
            );
            theirs
        }
    }
}

/// Outside of a runtime, where the driver does not run either, nothing is lost but the event.
fn spawn(future: impl Future<Output = ()> + Send + 'static) {
    if let Ok(runtime) = Handle::try_current() {
        runtime.spawn(future);
    }
}
