//! Chains event handlers: the driver takes only one handler of a kind of events, and the application may have its own.

use mongodb::event::EventHandler;
use tokio::runtime::Handle;

/// Returns a handler that calls `first`, that of the type `listener`, and then `second`, as the driver would call it.
pub(in crate::transaction) fn chain_handlers<E: Send + Sync + 'static>(
    listener: &'static str,
    second: EventHandler<E>,
    first: impl Fn(&E) + Send + Sync + 'static,
) -> EventHandler<E> {
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
                listener,
                "the listener receives no events: the client has an event handler of an unknown kind; set the handler after \
                 the listener has been installed, and call the listener's from it"
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
