//! The test kit behaves as a runner does: the author's mistakes are refused at the call, with the reason.

use std::net::IpAddr;
use std::time::Duration;

use plugin_api::{
    Arg, Call, ConfContext, Ended, Method, Next, Plugin, RawConfig, Request, Response, Result,
    bail, testing, tracing,
};

/// What a test wants the phases to do.
#[derive(Default)]
struct Scripted;

// Only one plugin of a program can carry the attribute: it exports a symbol. So this one is written out.
impl Plugin for Scripted {
    type Config = RawConfig;
    type Prepared = String;
    const PHASES: u32 = 1 << 3 | 1 << 4;
    const ABOUT: &'static str = r#"{"name":"scripted","needs":{}}"#;

    fn init_worker(_: &plugin_api::InitContext) -> Result<Self> {
        Ok(Self)
    }

    fn configure(&self, config: RawConfig, _: &ConfContext) -> Result<String> {
        Ok(String::from_utf8(config.0)?)
    }

    fn access(&self, script: &String, request: &mut Request<'_>) -> Result<Next> {
        match script.as_str() {
            "empty header" => request.set_header("x", "")?,
            "no host" => request.remove_header("Host")?,
            "bare path" => request.set_path("x")?,
            "empty body" => request.set_body("")?,
            "dropped header" => request.set_response_header("Content-Type", "a/b")?,
            "1xx" => return Next::respond(100).into(),
            "bad answer" => return Next::respond(200).header("x", "a\nb").into(),
            "panic" => panic!("on purpose"),
            "error" => bail!("on purpose"),
            "ask" => return ask(request),
            "read" => return read(request),
            "copy" => return copy(request),
            other => bail!("no script `{other}`"),
        }
        Ok(Next::CONTINUE)
    }

    fn header_filter(&self, script: &String, response: &mut Response<'_>) -> Result<Next> {
        match script.as_str() {
            "1xx" => response.set_status(100)?,
            "empty body" => response.set_body("")?,
            "empty answer" => return Next::respond(403).into(),
            "connection" => response.set_header("Connection", "close")?,
            "remove" => response.remove_header("SET-COOKIE")?,
            other => bail!("no script `{other}`"),
        }
        Ok(Next::CONTINUE)
    }
}

fn ask(request: &mut Request<'_>) -> Result<Next> {
    for _ in 0..2 {
        request.body()?;
        request.variable("scheme")?;
    }
    tracing::info!(answer = 42, "asked");
    Ok(Next::CONTINUE)
}

fn read(request: &mut Request<'_>) -> Result<Next> {
    assert_eq!(request.method(), Method::PUT);
    assert_eq!(request.client_address(), Some(IpAddr::from([10, 0, 0, 1])));
    assert!(request.remaining() <= Duration::from_secs(2));
    assert_eq!(request.arg("flag"), Some(Arg::Flag));
    assert_eq!(request.arg("empty").unwrap().value().unwrap(), "");
    let all: Vec<_> = request
        .arg_values("a")
        .map(|arg| arg.value().unwrap().to_string())
        .collect();
    assert_eq!(all, ["1 2", "3"]);
    assert!(request.arg("none").is_none());
    assert_eq!(request.consumer().unwrap(), "jack");
    assert_eq!(request.shared("k").unwrap(), "v");
    Ok(Next::CONTINUE)
}

/// What was read stays readable after it was replaced.
fn copy(request: &mut Request<'_>) -> Result<Next> {
    let first = request.header("x").unwrap();
    request.set_header("x", "second")?;
    request.set_header("y", first)?;
    request.remove_header("x")?;
    assert_eq!(first, "first");
    Ok(Next::CONTINUE)
}

#[track_caller]
fn access(script: &str, request: testing::Request) -> testing::Outcome {
    testing::conf::<Scripted>(script).unwrap().access(request)
}

#[track_caller]
fn refused(script: &str, reason: &str) {
    let outcome = access(script, testing::Request::get("/").header("Host", "a"));
    let error = outcome.error().unwrap().to_string();
    assert!(error.contains(reason), "{error}");
    assert!(outcome.answer().is_none() && !outcome.continues());
}

#[test]
fn what_a_gateway_would_mistreat_on_a_request_fails_the_phase_with_the_reason() {
    refused("empty header", "use remove_header");
    refused("no host", "the upstream would answer 400");
    refused("bare path", "does not start with `/`");
    refused("empty body", "the gateway ignores it");
    refused("dropped header", "change it in header_filter");
    refused("1xx", "would drop the client");
    refused("bad answer", "cannot stand in HTTP");
}

#[test]
fn what_a_gateway_would_mistreat_on_a_response_fails_the_phase_with_the_reason() {
    for (script, reason) in [
        ("1xx", "would drop the client"),
        ("empty body", "would send the upstream's"),
        ("empty answer", "would send the upstream's"),
        ("connection", "belongs to the connection"),
    ] {
        let conf = testing::conf::<Scripted>(script).unwrap();
        let outcome = conf.header_filter(testing::Response::new(200));
        let error = outcome.error().unwrap().to_string();
        assert!(error.contains(reason), "{error}");
    }
}

#[test]
fn a_header_is_found_and_removed_in_any_case() {
    let response = testing::Response::new(200)
        .header("Set-Cookie", "a")
        .header("set-cookie", "b");
    let outcome = testing::conf::<Scripted>("remove")
        .unwrap()
        .header_filter(response);
    assert!(outcome.header("Set-Cookie").is_none());
}

#[test]
fn a_panic_and_an_error_are_told_apart() {
    let outcome = access("panic", testing::Request::get("/"));
    assert!(outcome.panicked());
    assert_eq!(outcome.error().unwrap(), "panicked: on purpose");
    let outcome = access("error", testing::Request::get("/"));
    assert!(!outcome.panicked());
    assert_eq!(outcome.error().unwrap(), "on purpose");
}

#[test]
fn a_question_counts_once_and_events_are_kept() {
    let outcome = access("ask", testing::Request::get("/"));
    assert_eq!(
        outcome.undeclared_questions(),
        ["request_body", "variable scheme"]
    );
    let [event] = outcome.events() else {
        panic!("{:?}", outcome.events());
    };
    assert_eq!(event.message, "asked");
    assert_eq!(event.fields["answer"], 42);
}

#[test]
fn a_gateway_that_leaves_fails_the_question() {
    let request = testing::Request::get("/").gateway_leaves("the gateway closed the connection");
    let outcome = access("ask", request);
    assert_eq!(
        outcome.error().unwrap(),
        "the gateway closed the connection"
    );
}

#[test]
fn a_request_reads_as_it_was_built() {
    let request = testing::Request::new(Method::PUT, "/p?flag&empty=&a=1+2&a=3")
        .client_address([10, 0, 0, 1])
        .consumer("jack")
        .shared("k", "v")
        .remaining(Duration::from_secs(2));
    let outcome = access("read", request);
    assert!(outcome.continues(), "{outcome:?}");
}

#[test]
fn what_was_read_outlives_its_replacement() {
    let outcome = access("copy", testing::Request::get("/").header("X", "first"));
    assert!(outcome.continues(), "{outcome:?}");
    assert_eq!(outcome.header("y").unwrap(), "first");
    assert!(outcome.header("x").is_none());
}

#[test]
#[should_panic(expected = "the plugin does not have this phase")]
fn a_phase_that_the_plugin_does_not_have_is_no_test() {
    let conf = testing::conf::<Scripted>("read").unwrap();
    let _ = conf.rewrite(testing::Request::get("/"));
}

/// Logs the path.
#[derive(Default)]
struct Logger;

impl Plugin for Logger {
    type Config = RawConfig;
    type Prepared = RawConfig;
    const PHASES: u32 = 1 << 6;
    const ABOUT: &'static str = r#"{"name":"logger","needs":{}}"#;

    fn init_worker(_: &plugin_api::InitContext) -> Result<Self> {
        Ok(Self)
    }

    fn configure(&self, config: RawConfig, _: &ConfContext) -> Result<RawConfig> {
        Ok(config)
    }

    fn log(&self, _: &RawConfig, call: &Call<'_>) {
        let ended = call.end().map(|end| end.ended());
        assert_eq!(ended, Some(Ended::Chain));
        if let Some(request) = call.request() {
            call.log_field("path", request.path()).unwrap();
        }
        if let Some(response) = call.response() {
            call.log_field("status", response.status().to_string())
                .unwrap();
        }
    }
}

#[test]
fn log_sees_the_call_and_adds_fields() {
    let logger = testing::conf::<Logger>("").unwrap();
    let outcome = logger.log_request(testing::Request::get("/a?b"));
    assert!(outcome.continues(), "{outcome:?}");
    assert_eq!(outcome.log_field("path").unwrap(), "/a");
    let outcome = logger.log_response(testing::Response::new(418));
    assert_eq!(outcome.log_field("status").unwrap(), "418");
}
