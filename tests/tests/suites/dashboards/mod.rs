//! The dashboards: that they are what their source says, that Grafana takes them, that their queries name what there is,
//! and that no panel stays empty.

mod layout;
mod live;
mod page;
mod queries;
mod schema;
mod source;
