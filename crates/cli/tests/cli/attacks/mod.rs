//! Attacks on the program: malicious input (documents, records, error messages, responses of services), and malicious clients
//! of `serve`.

mod control_characters;
mod environment;
mod javascript;
mod prometheus;
mod records;
mod serve;
