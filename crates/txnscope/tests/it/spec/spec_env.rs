//! A test environment whose client records the commands that it sends in transactions.

use std::sync::{Arc, Mutex};

use mongodb::Client;
use mongodb::bson::{Document, doc};
use mongodb::event::EventHandler;
use mongodb::event::command::CommandEvent;
use mongodb::options::ClientOptions;

use crate::env::Environment;

pub(crate) struct SpecEnv {
    pub(crate) env: Environment,
    client: Client,
    sent: Sent,
}

type Sent = Arc<Mutex<Vec<Document>>>;

impl SpecEnv {
    pub(crate) async fn start() -> Self {
        Self::with(|_| {}).await
    }

    /// Starts the environment with changed client options.
    pub(crate) async fn with(change: impl FnOnce(&mut ClientOptions)) -> Self {
        let mut env = Environment::start().await;
        let sent = Sent::default();
        let mut options = ClientOptions::parse(env.set.uri()).await.unwrap();
        // The application name that failpoints match.
        options.app_name = Some("runner".to_owned());
        options.heartbeat_freq = Some(std::time::Duration::from_millis(500));
        let written = Arc::clone(&sent);
        options.command_event_handler = Some(EventHandler::callback(move |event| {
            if let CommandEvent::Started(started) = event
                && started.command.contains_key("autocommit")
            {
                written.lock().unwrap().push(started.command);
            }
        }));
        change(&mut options);
        let client = Client::with_options(options).unwrap();
        env.reset(&client).await;
        Self { env, client, sent }
    }

    /// Resets the counters, the collection and the recorded commands.
    pub(crate) async fn reset(&mut self) {
        self.env.reset(&self.client).await;
        self.sent.lock().unwrap().clear();
    }

    /// The recorded commands of this name.
    pub(crate) fn sent(&self, command: &str) -> Vec<Document> {
        let sent = self.sent.lock().unwrap();
        sent.iter().filter(|sent| sent.keys().next().is_some_and(|name| name == command)).cloned().collect()
    }

    /// Ends the transactions that are still open because a failpoint answered in the server's place: a real answer
    /// would have ended them.
    pub(crate) async fn end_simulated_aborts(&self) {
        self.env.runner.wait_idle().await;
        self.env.admin.database("admin").run_command(doc! {"killAllSessions": []}).await.unwrap();
    }

    /// The ids of the committed documents.
    pub(crate) async fn committed(&self) -> Vec<i32> {
        let mut cursor = self.env.items_of_others().find(doc! {}).sort(doc! {"_id": 1}).await.unwrap();
        let mut ids = Vec::new();
        while cursor.advance().await.unwrap() {
            ids.push(cursor.deserialize_current().unwrap().get_i32("_id").unwrap());
        }
        ids
    }
}
