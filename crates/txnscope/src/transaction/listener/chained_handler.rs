//! The driver takes one handler of command events, and an application may have one of its own.

use mongodb::event::EventHandler;
use mongodb::event::command::CommandEvent;
use tokio::runtime::Handle;

/// A handler that has each event heard and then gives it to theirs, the way the driver would have.
pub(super) fn chain_handlers(
    second: EventHandler<CommandEvent>,
    first: impl Fn(&CommandEvent) + Send + Sync + 'static,
) -> EventHandler<CommandEvent> {
    match second {
        EventHandler::Callback(second) => EventHandler::callback(move |event| {
            first(&event);
            second(event);
        }),
        EventHandler::AsyncCallback(second) => EventHandler::callback(move |event| {
            first(&event);
            spawn(second(event));
        }),
        EventHandler::TokioMpsc(second) => EventHandler::callback(move |event| {
            first(&event);
            let second = second.clone();
            spawn(async move { drop(second.send(event).await) });
        }),
        second => {
            tracing::error!(
                "transactions are not listened to: the client has a handler of command events of an unknown kind"
            );
            second
        }
    }
}

/// Outside of a runtime, where the driver does not run either, nothing is lost but the event.
fn spawn(future: impl Future<Output = ()> + Send + 'static) {
    if let Ok(runtime) = Handle::try_current() {
        runtime.spawn(future);
    }
}
