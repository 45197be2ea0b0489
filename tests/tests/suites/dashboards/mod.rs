//! The dashboards: the files match their source, Grafana accepts them, their queries use existing metrics, and no
//! panel stays empty.

mod layout;
mod live;
mod page;
mod queries;
mod schema;
mod source;
