//! Decoding of `lockInfo`: who holds each lock, and who waits for it in which order.

use mongodb::bson::Document;

use super::operation::integer;
use crate::decode::{document, documents, text};

/// The locks of one member: those on databases and collections, and those that an operation waits for.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct LockTable {
    pub(super) resources: Vec<LockedResource>,
}

/// One resource.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct LockedResource {
    /// The kind in small letters, such as `collection`.
    pub(super) kind: String,
    /// The name of the database or the namespace of the collection.
    pub(super) name: Option<String>,
    pub(super) granted: Vec<LockRequest>,
    /// In the order of the queue.
    pub(super) pending: Vec<LockRequest>,
}

/// A request for a lock.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct LockRequest {
    pub(super) owner: Owner,
    pub(super) mode: Mode,
    /// The mode that a holder waits to convert its lock to.
    pub(super) converts_to: Option<Mode>,
}

/// Who has made a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Owner {
    /// An operation, by its id.
    Operation(i64),
    /// A session with an idle transaction, by its id.
    Session(String),
    /// Neither is listed.
    Unknown,
}

/// The mode of a lock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mode {
    IntentShared,
    IntentExclusive,
    Shared,
    Exclusive,
}

impl Mode {
    fn parse(text: &str) -> Option<Self> {
        match text {
            "IS" => Some(Self::IntentShared),
            "IX" => Some(Self::IntentExclusive),
            "S" => Some(Self::Shared),
            "X" => Some(Self::Exclusive),
            _ => None,
        }
    }

    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::IntentShared => "IS",
            Self::IntentExclusive => "IX",
            Self::Shared => "S",
            Self::Exclusive => "X",
        }
    }

    /// Whether two requests cannot both be granted.
    pub(super) const fn conflicts_with(self, other: Self) -> bool {
        match (self, other) {
            (Self::Exclusive, _) | (_, Self::Exclusive) => true,
            (Self::IntentExclusive, Self::Shared) | (Self::Shared, Self::IntentExclusive) => true,
            (Self::IntentShared | Self::IntentExclusive | Self::Shared, _) => false,
        }
    }
}

/// Decodes the reply. `None` if it has no list of locks.
pub(super) fn decode(reply: &Document) -> Option<LockTable> {
    let resources = documents(reply, &["lockInfo"]).ok()?;
    let resources = resources.into_iter().filter_map(resource);
    let is_shown = |resource: &LockedResource| {
        !resource.pending.is_empty()
            || resource.granted.iter().any(|request| request.converts_to.is_some())
            || matches!(resource.kind.as_str(), "database" | "collection")
    };
    Some(LockTable { resources: resources.filter(is_shown).collect() })
}

/// The resource's id reads `{number: Kind, number, name}`; the name is missing for kinds that have one resource.
fn resource(entry: &Document) -> Option<LockedResource> {
    let id = text(entry, &["resourceId"]).ok()?;
    let (_, id) = id.strip_prefix('{')?.strip_suffix('}')?.split_once(": ")?;
    let mut parts = id.splitn(3, ", ");
    let kind = parts.next()?.to_lowercase();
    let name = parts.nth(1).map(str::to_owned);
    let requests = |list| {
        let listed = documents(entry, &[list]).ok().unwrap_or_default();
        listed.into_iter().filter_map(request).collect()
    };
    Some(LockedResource { kind, name, granted: requests("granted"), pending: requests("pending") })
}

fn request(entry: &Document) -> Option<LockRequest> {
    let mode = |name| text(entry, &[name]).ok().and_then(Mode::parse);
    let opid = document(entry, &["clientInfo"]).ok().and_then(|client| integer(client, &["opid"]));
    let owner = match opid {
        Some(opid) => Owner::Operation(opid),
        // Older servers put the command of a running operation here, so this is read for idle sessions only.
        None => match text(entry, &["debugInfo"]).ok().and_then(session) {
            Some(session) => Owner::Session(session),
            None => Owner::Unknown,
        },
    };
    Some(LockRequest { owner, mode: mode("mode")?, converts_to: mode("convertMode") })
}

/// The id in `lsid: { id: UUID("…"), …`.
fn session(debug_info: &str) -> Option<String> {
    let (_, rest) = debug_info.split_once("lsid: { id: UUID(\"")?;
    let (id, _) = rest.split_once('"')?;
    let is_uuid = id.len() == 36 && id.chars().all(|c| c.is_ascii_hexdigit() || c == '-');
    is_uuid.then(|| id.to_lowercase())
}
