//! Chains event handlers: the driver takes only one handler of command events, and the application may have its own.

use mongodb::event::EventHandler;
use mongodb::event::command::CommandEvent;
use tokio::runtime::Handle;

/// Returns a handler that calls `first` and then `second`, as the driver would call it.
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
                "transactions are not counted: the client has a command event handler of an unknown kind; set \
                 TransactionListener::handler as the client's command event handler"
            );
            second
        }
    }
}

/// Spawns a future. Outside of a runtime, where the driver does not run either, only the event is lost.
fn spawn(future: impl Future<Output = ()> + Send + 'static) {
    if let Ok(runtime) = Handle::try_current() {
        runtime.spawn(future);
    }
}
