//! Corrupted seeds of the fuzz targets, each through the whole proxy in memory.

use txnscope_proxy::fuzzing;

use crate::support::scaled;

/// The usual number of cases, and that of the long form.
const CASES: (u32, u32) = (500, 200_000);

fn seeds(target: &str) -> Vec<(String, Vec<u8>)> {
    let folder = testkit::workspace().join("fuzz/seeds").join(target);
    let files = std::fs::read_dir(folder).unwrap().map(|file| file.unwrap().path());
    files.map(|file| (file.display().to_string(), std::fs::read(&file).unwrap())).collect()
}

/// Without requests that pass, the fuzz targets would be ineffective.
#[test]
fn well_formed_requests_reach_the_backend_and_its_answers_the_caller() {
    for (file, bytes) in seeds("proxy_request") {
        let expected = if file.ends_with("pipelined") { 3 } else { 1 };
        assert_eq!(fuzzing::request(&bytes), expected, "{file}");
    }
    for (file, bytes) in seeds("proxy_answer") {
        assert!(fuzzing::answer(&bytes), "{file}");
    }
}

#[test]
fn malformed_request_reaches_the_backend_in_one_reading_or_not_at_all() {
    testkit::assert_no_panic("proxy_request", &[], scaled(CASES.0, CASES.1), |bytes| {
        fuzzing::request(bytes);
    });
}

#[test]
fn malformed_answer_of_the_backend_reaches_the_caller_whole_or_breaks_off() {
    testkit::assert_no_panic("proxy_answer", &[], scaled(CASES.0, CASES.1), |bytes| {
        fuzzing::answer(bytes);
    });
}
