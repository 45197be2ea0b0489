//! A stage whose client writes down what it sends in transactions.

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

    /// With a client of other options.
    pub(crate) async fn with(change: impl FnOnce(&mut ClientOptions)) -> Self {
        let mut env = Environment::start().await;
        let sent = Sent::default();
        let mut options = ClientOptions::parse(env.set.uri()).await.unwrap();
        // The name that the stage sets failpoints for.
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

    /// Empty books, an empty collection, nothing sent yet.
    pub(crate) async fn reset(&mut self) {
        self.env.reset(&self.client).await;
        self.sent.lock().unwrap().clear();
    }

    /// The commands of that name that were sent in transactions.
    pub(crate) fn sent(&self, command: &str) -> Vec<Document> {
        let sent = self.sent.lock().unwrap();
        sent.iter().filter(|sent| sent.keys().next().is_some_and(|name| name == command)).cloned().collect()
    }

    /// Ends what the server has open because a failpoint answered in its place: a server that really answers so has
    /// ended the transaction.
    pub(crate) async fn end_what_was_only_said_to_have_ended(&self) {
        self.env.runner.wait_idle().await;
        self.env.admin.database("admin").run_command(doc! {"killAllSessions": []}).await.unwrap();
    }

    /// The identifiers of the documents that everybody can read.
    pub(crate) async fn committed(&self) -> Vec<i32> {
        let mut cursor = self.env.items_of_others().find(doc! {}).sort(doc! {"_id": 1}).await.unwrap();
        let mut ids = Vec::new();
        while cursor.advance().await.unwrap() {
            ids.push(cursor.deserialize_current().unwrap().get_i32("_id").unwrap());
        }
        ids
    }
}
