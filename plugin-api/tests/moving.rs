//! What MOVING.md puts in the place of the other runners' methods does what they do.
#![forbid(unsafe_code)]
#![expect(clippy::unwrap_used, reason = "a test ends at the first surprise")]

use std::net::IpAddr;

use plugin_api::{
    Arg, ConfContext, InitContext, Method, Next, Plugin, Request, Response, Result, config, plugin,
    testing,
};

/// `{"case": "read"}`
#[config]
pub struct Config {
    case: String,
}

struct Moved;

#[plugin(name = "moved")]
impl Plugin for Moved {
    type Config = Config;
    type Prepared = String;

    fn init_worker(_: &InitContext) -> Result<Self> {
        Ok(Self)
    }

    fn configure(&self, config: Config, _: &ConfContext) -> Result<String> {
        Ok(config.case)
    }

    #[needs(variables("host"), request_body)]
    fn access(&self, case: &String, request: &mut Request<'_>) -> Result<Next> {
        match case.as_str() {
            "read" => read(request),
            "change" => change(request),
            _ => Next::respond(418)
                .header("X-A", "1")
                .header("X-A", "2")
                .body("teapot")
                .into(),
        }
    }

    #[needs(variables("status"))]
    fn header_filter(&self, _: &String, response: &mut Response<'_>) -> Result<Next> {
        assert_eq!((response.id(), response.status()), (0, 201));
        assert_eq!(response.route_key(), "route#1#test#1");
        assert_eq!(response.header("x-upstream").unwrap(), "u1");
        assert_eq!(response.headers().count(), 3);
        assert_eq!(response.variable("status")?.unwrap(), "201");
        response.set_status(202)?;
        response.set_status(203)?;
        response.set_header("X-New", "1")?;
        response.add_header("X-New", "2")?;
        response.remove_header("X-Gone")?;
        Ok(Next::CONTINUE)
    }

    #[needs(response_body)]
    fn body_filter(&self, _: &String, response: &mut Response<'_>) -> Result<Next> {
        assert_eq!(response.status(), 203);
        assert_eq!(response.body()?.unwrap(), "old");
        response.set_body("new")?;
        Ok(Next::CONTINUE)
    }
}

fn read(request: &Request<'_>) -> Result<Next> {
    assert_eq!((request.id(), request.method()), (0, Method::POST));
    assert_eq!(request.route_key(), "route#1#test#1");
    assert_eq!(
        request.client_address(),
        Some(IpAddr::from([192, 168, 0, 1]))
    );
    assert_eq!(request.path(), "/p");
    assert_eq!(request.header("X-ONE").unwrap(), "1");
    assert!(request.header("X-None").is_none());
    assert_eq!(request.header_values("x-one").count(), 2);
    assert_eq!(request.headers().count(), 3);
    assert_eq!(request.header("x-odd").unwrap().as_bytes(), b"\xff");
    assert_eq!(request.arg("flag"), Some(Arg::Flag));
    assert_eq!(request.arg("a").unwrap().value().unwrap(), "1");
    assert_eq!(request.arg_values("a").count(), 2);
    assert_eq!(request.args().count(), 3);
    assert_eq!(request.variable("host")?.unwrap(), "h");
    assert!(request.variable("none")?.is_none());
    assert_eq!(request.body()?.unwrap().as_str()?, "old");
    assert!(request.deadline().elapsed().is_zero() && !request.remaining().is_zero());
    Ok(Next::CONTINUE)
}

fn change(request: &mut Request<'_>) -> Result<Next> {
    assert!(request.set_path("no-slash").is_err());
    request.set_path("/new")?;
    assert!(request.set_header("X One", "1").is_err());
    request.set_header("X-One", "new")?;
    assert!(request.remove_header("host").is_err());
    request.remove_header("X-Odd")?;
    request.set_arg("a", "new")?;
    request.add_arg("b", "1")?;
    request.add_arg("b", "2")?;
    request.remove_arg("flag")?;
    assert!(request.set_body("").is_err());
    request.set_body("new")?;
    assert_eq!(request.body()?.unwrap(), "new");
    request.set_shared("moved.seen", "yes")?;
    assert_eq!(request.shared("moved.seen").unwrap(), "yes");
    assert!(request.set_response_header("Location", "/").is_err());
    request.set_response_header("X-Beside", "1")?;
    request.add_response_header("X-Beside", "2")?;
    assert_eq!(request.response_headers().count(), 2);
    Ok(Next::CONTINUE)
}

fn request() -> testing::Request {
    testing::Request::new(Method::POST, "/p?flag&a=1&a=2")
        .client_address([192, 168, 0, 1])
        .header("x-one", "1")
        .header("x-one", "2")
        .header("x-odd", b"\xff")
        .variable("host", "h")
        .body("old")
}

#[track_caller]
fn moved(case: &str) -> testing::Conf {
    testing::conf::<Moved>(format!(r#"{{"case": "{case}"}}"#)).unwrap()
}

#[test]
fn a_conf_is_read_once_and_refused_with_its_reason() {
    let refused = testing::conf::<Moved>(r#"{"caes": "read"}"#).unwrap_err();
    assert!(refused.to_string().ends_with("did you mean `case`?"));
    let conf = moved("read");
    for _ in 0..2 {
        assert!(conf.access(request()).continues());
    }
}

#[test]
fn a_request_is_read() {
    let outcome = moved("read").access(request());
    assert!(outcome.continues(), "{outcome:?}");
    assert!(outcome.body().is_none());
}

#[test]
fn a_request_is_changed() {
    let outcome = moved("change").access(request());
    assert!(outcome.continues(), "{outcome:?}");
    assert_eq!(outcome.path(), "/new");
    assert!(outcome.header_values("x-one").eq(["new"]));
    assert!(outcome.header("x-odd").is_none());
    assert!(outcome.arg_values("a").eq(["new"]));
    assert!(outcome.arg_values("b").eq(["1", "2"]));
    assert!(outcome.arg("flag").is_none());
    assert_eq!(outcome.body().unwrap(), "new");
    assert_eq!(outcome.shared("moved.seen").unwrap(), "yes");
    assert!(outcome.response_header_values("x-beside").eq(["1", "2"]));
}

#[test]
fn a_request_is_answered() {
    let outcome = moved("answer").access(request());
    let answer = outcome.answer().unwrap();
    assert_eq!(answer.status(), 418);
    assert!(answer.header_values("x-a").eq(["1", "2"]));
    assert_eq!(answer.body(), "teapot");
}

fn upstream() -> testing::Response {
    testing::Response::new(201)
        .header("X-Upstream", "u1")
        .header("Set-Cookie", "a=b")
        .header("X-Gone", "1")
        .variable("status", "201")
        .body("old")
}

#[test]
fn a_response_is_read_and_changed() {
    let outcome = moved("any").response(upstream());
    assert!(outcome.continues(), "{outcome:?}");
    assert_eq!(outcome.status(), 203);
    assert!(outcome.header_values("x-new").eq(["1", "2"]));
    assert!(outcome.header("x-gone").is_none());
    assert_eq!(outcome.header("set-cookie").unwrap(), "a=b");
    assert_eq!(outcome.body().unwrap(), "new");
}

#[test]
fn what_is_declared_costs_no_question_of_its_own() {
    let outcome = moved("read").access(request());
    assert_eq!(outcome.undeclared_questions(), ["variable none"]);
    let outcome = moved("any").response(upstream());
    assert!(outcome.undeclared_questions().is_empty());
}
