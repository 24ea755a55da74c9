//! The plugin as a gateway sees it.

use plugin_api::{Configuration, serde_json::json, testing};

use super::*;

/// A rate at which nothing comes back while a test runs.
const SLOW: &str = r#""rate": 0.001, "burst": 2, "max_delay": 0"#;

#[track_caller]
fn configured(more: &str) -> testing::Conf {
    testing::conf::<LimitReq>(format!("{{{SLOW}{more}}}")).unwrap()
}

fn get() -> testing::Request {
    testing::Request::get("/x")
}

/// How many of five such requests pass.
#[track_caller]
fn passing(conf: &testing::Conf, request: &testing::Request) -> usize {
    let outcomes = (0..5).map(|_| conf.access(request.clone()));
    outcomes.filter(testing::Outcome::continues).count()
}

#[track_caller]
fn refused(conf: &str) -> String {
    let refused = testing::conf::<LimitReq>(conf).unwrap_err();
    refused.to_string()
}

#[test]
fn the_burst_passes_and_the_rest_is_rejected() {
    for (more, status) in [("", 503), (r#", "rejected_code": 429"#, 429)] {
        let limit = configured(more);
        assert_eq!(passing(&limit, &get()), 2);
        let outcome = limit.access(get());
        let answer = outcome.answer().unwrap();
        assert_eq!(answer.status(), status);
        assert!(answer.body().is_empty());
    }
}

#[test]
fn a_request_waits_for_its_turn_as_long_as_it_may() {
    let limit = testing::conf::<LimitReq>(r#"{"rate": 50, "burst": 1}"#).unwrap();
    let started = Instant::now();
    assert_eq!(passing(&limit, &get()), 5);
    assert!(started.elapsed() >= Duration::from_millis(4 * 20));
}

#[test]
fn a_request_is_rejected_at_once_when_its_turn_would_come_too_late() {
    let conf = r#"{"rate": 0.001, "burst": 1, "max_delay": 60000}"#;
    let limit = testing::conf::<LimitReq>(conf).unwrap();
    assert_eq!(passing(&limit, &get()), 1);
    // A call never waits for more than half of its time.
    let limit = testing::conf::<LimitReq>(r#"{"rate": 10, "burst": 1}"#).unwrap();
    let hurried = get().remaining(Duration::from_millis(100));
    assert!(limit.access(hurried.clone()).continues());
    assert!(!limit.access(hurried).continues());
}

#[test]
fn no_more_requests_wait_than_there_are_places() {
    let taken = AtomicUsize::new(0);
    let mut places: Vec<_> = (0..MAX_WAITING).map(|_| Place::take(&taken)).collect();
    assert!(places.iter().all(Option::is_some));
    assert!(Place::take(&taken).is_none());
    places.pop();
    assert!(Place::take(&taken).is_some());
}

#[test]
fn clients_are_limited_each_by_their_address() {
    let limit = configured(r#", "key": "remote_addr""#);
    let (one, other) = (get(), get().client_address([10, 0, 0, 7]));
    assert_eq!(passing(&limit, &one), 2);
    assert_eq!(passing(&limit, &other), 2);
    assert_eq!(passing(&limit, &one), 0);
}

#[test]
fn a_header_or_a_variable_may_be_the_key() {
    let limit = configured(r#", "key": "header:X-User""#);
    for user in ["ann", "bob"] {
        assert_eq!(passing(&limit, &get().header("x-user", user)), 2);
        assert_eq!(passing(&limit, &get().header("x-user", user)), 0);
    }
    let limit = configured(r#", "key": "var:host""#);
    for host in ["a.test", "b.test"] {
        assert_eq!(passing(&limit, &get().variable("host", host)), 2);
        assert_eq!(passing(&limit, &get().variable("host", host)), 0);
    }
}

#[test]
fn requests_without_a_value_of_the_key_count_as_one_clients() {
    let limit = configured(r#", "key": "header:x-user""#);
    assert_eq!(passing(&limit, &get()), 2);
    let elsewhere = get().client_address([10, 0, 0, 7]);
    assert_eq!(passing(&limit, &elsewhere), 0);
    assert_eq!(passing(&limit, &elsewhere.header("x-user", "")), 0);
    assert_eq!(passing(&configured(r#", "key": "var:none""#), &get()), 2);
}

#[test]
fn without_a_key_the_whole_route_is_limited_at_once() {
    for key in ["", r#", "key": "route""#] {
        let limit = configured(key);
        assert_eq!(passing(&limit, &get()), 2);
        assert_eq!(passing(&limit, &get().client_address([10, 0, 0, 7])), 0);
    }
}

#[test]
fn without_an_answer_to_the_variable_the_call_is_an_error() {
    let limit = configured(r#", "key": "var:host""#);
    let outcome = limit.access(get().gateway_leaves("the gateway left"));
    assert!(outcome.error().is_some());
}

#[test]
fn a_successor_goes_on_with_the_same_state() {
    let each = r#", "key": "remote_addr""#;
    let first = configured(each);
    let other = get().client_address([10, 0, 0, 7]);
    assert_eq!(passing(&first, &get()), 2);
    assert!(first.access(other.clone()).continues());
    let second = configured(each);
    second
        .import_state(first.export_state().unwrap().unwrap())
        .unwrap();
    assert_eq!(passing(&second, &get()), 0);
    assert_eq!(passing(&second, &other), 1);
}

#[test]
fn what_makes_no_sense_is_refused_with_the_key() {
    for (conf, reason) in [
        ("{}", "missing field `rate`"),
        (r#"{"rate": 1}"#, "missing field `burst`"),
        (
            r#"{"rate": 0, "burst": 1}"#,
            "`rate`: 0 is not 0.001 to 1000000",
        ),
        (r#"{"rate": 1, "burst": 0}"#, "`burst`: 0 is not 1 to"),
        (
            r#"{"rate": 1, "burst": 1, "rejected_code": 100}"#,
            "`rejected_code`: 100 is not",
        ),
        (
            r#"{"rate": 1, "burst": 1, "max_delay": 60001}"#,
            "`max_delay`: 60001 is more",
        ),
        (
            r#"{"rate": 1, "burst": 1, "key": "header:"}"#,
            "`key`: `header:` is not `remote_addr`",
        ),
        (
            r#"{"rate": 1, "burst": 1, "key": "ip"}"#,
            "`key`: `ip` is not",
        ),
        (r#"{"rate": 1, "brust": 1}"#, "did you mean `burst`?"),
    ] {
        let said = refused(conf);
        assert!(said.contains(reason), "{conf}: {said}");
    }
}

#[test]
fn the_schema_names_every_key_and_no_other() {
    let schema = Config::schema().unwrap();
    assert_eq!(schema["additionalProperties"], false);
    assert_eq!(schema["required"], json!(["rate", "burst"]));
    assert_eq!(schema["properties"]["burst"]["minimum"], 1);
    assert_eq!(schema["properties"]["key"]["default"], "route");
    assert_eq!(schema["properties"]["rejected_code"]["default"], 503);
    assert_eq!(schema["properties"].as_object().unwrap().len(), 5);
}
