//! What other runners of this RPC got wrong, one test for each fault. The line above a test says which runner, and
//! where it can be seen: `capture NAME` is a recording in `tests/fixtures/captures`, `MOVING.md` is plugin-api's;
//! other files are the runners' own.

use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::process::Stdio;

use e2e::gateway::{Gateway, frame};
use e2e::message::{
    Code, ERROR, EXTRA_INFO, HTTP_REQ_CALL, HTTP_RESP_CALL, PREPARE_CONF, Question, Reply, Request,
    Response, answer_payload, entries, prepare_payload, read_id,
};
use e2e::runner::{Runner, is_alive};
use e2e::wait;
use rustix::process::Signal;

const UNAVAILABLE: Reply = Reply::Error(Code::ServiceUnavailable);
const STOP: [(&str, &str); 1] = [("stop", r#"{"body": "ok"}"#)];
const ECHO: [(&str, &str); 1] = [("do", r#"{"echo": "request"}"#)];
const ECHO_BODY: [(&str, &str); 1] = [("do", r#"{"echo": "body"}"#)];
/// The longest payload of a frame.
const LONGEST: usize = (1 << 24) - 1;

/// Python: id 0 is taken for none, the answer is lost (capture py-first-request-id-zero).
#[test]
fn a_call_with_id_0_is_a_call_like_any_other() {
    let runner = Runner::with(&["stop", "do"]);
    let mut gateway = runner.gateway();
    let token = gateway.prepare(&STOP);
    let request = Request {
        id: 0,
        ..Request::get("/")
    };
    gateway.send(HTTP_REQ_CALL, &request.payload(token));
    let frame = gateway.receive();
    assert_eq!((frame.kind, read_id(&frame.payload)), (HTTP_REQ_CALL, 0));
    assert_eq!(frame.reply().text(), "ok");
    let token = gateway.prepare(&[("do", r#"{"resp": {"status": 418}}"#)]);
    let response = Response {
        id: 0,
        ..Response::new(200, &[])
    };
    assert_eq!(gateway.response(token, &response).answer().status, 418);
}

/// Python: an error is put into a frame of type 2, which the gateway reads as "no action": the request passes (captures
/// py-unknown-plugin, py-first-request-id-zero). Go: the same with a plugin that it does not have (go-unknown-plugin).
#[test]
fn an_error_goes_in_a_frame_of_type_0() {
    let runner = Runner::with(&["stop", "misbehaving"]);
    let mut gateway = runner.gateway();
    let panics = |phase| format!(r#"{{"mode": "panic", "phase": "{phase}"}}"#);
    let (access, filter) = (panics("access"), panics("header_filter"));
    for conf in [
        [("no-such", "{}")],
        [("stop", "not json")],
        [("misbehaving", &access)],
        [("misbehaving", &filter)],
    ] {
        let token = gateway.prepare(&conf);
        let call = match conf[0].1.contains("header_filter") {
            true => (HTTP_RESP_CALL, Response::new(200, &[]).payload(token)),
            false => (HTTP_REQ_CALL, Request::get("/").payload(token)),
        };
        gateway.send(call.0, &call.1);
        let frame = gateway.receive_reply();
        assert_eq!(frame.kind, ERROR, "{conf:?}");
        assert_eq!(frame.reply(), UNAVAILABLE);
    }
}

/// Go and Python: one read for a payload, whatever it brings. Go closes the connection ("truncated"), Python goes on
/// with what there is (Go: internal/server/server.go, `handleConn`; Python: runner/server/server.py, `_threaded`).
#[test]
fn a_body_of_1_mib_that_comes_in_small_parts_is_read_whole() {
    let runner = Runner::with(&["do", "asking"]);
    let body: Vec<u8> = (0..1 << 20).map(|at| b'a' + (at % 23) as u8).collect();
    let answer = frame(EXTRA_INFO, &answer_payload(Some(&body)));
    let mut gateway = runner.gateway();
    let token = gateway.prepare(&ECHO_BODY);
    gateway.send(HTTP_REQ_CALL, &Request::get("/").payload(token));
    assert_eq!(gateway.receive().kind, EXTRA_INFO);
    for part in answer.chunks(1009) {
        gateway.write(part);
    }
    assert!(gateway.receive().reply().answer().body == body);
    // The same with the upstream's, which `asking` gives back in upper case.
    let token = gateway.prepare(&[("asking", "{}")]);
    gateway.send(HTTP_RESP_CALL, &Response::new(200, &[]).payload(token));
    assert_eq!(gateway.receive().kind, EXTRA_INFO);
    for part in answer.chunks(1009) {
        gateway.write(part);
    }
    assert!(gateway.receive().reply().answer().body == body.to_ascii_uppercase());
}

/// Python: an argument without a value ends the connection's thread; the client gets 503 (capture
/// py-args-without-value). Go: it becomes an empty value (MOVING.md, `Args`).
#[test]
fn an_argument_without_a_value_is_not_an_empty_one() {
    let runner = Runner::with(&["do"]);
    let mut gateway = runner.gateway();
    let token = gateway.prepare(&ECHO);
    let mut request = Request::get("/p").arg("empty", "");
    request.args.push((b"flag".to_vec(), None));
    let seen = gateway.request(token, &request).text();
    assert_eq!(
        seen,
        "path /p\narg empty=\narg flag\nheader host: demo.test"
    );
}

/// Python: headers and arguments are kept in a dictionary, the last of a name wins (capture py-repeated-headers-args).
#[test]
fn repeated_headers_and_arguments_are_all_there() {
    let runner = Runner::with(&["do"]);
    let mut gateway = runner.gateway();
    let token = gateway.prepare(&ECHO);
    let request = Request::get("/p").arg("a", "1").arg("a", "2");
    let request = request.header("x-r", "1").header("x-r", "2");
    let seen = gateway.request(token, &request).text();
    assert_eq!(
        seen,
        "path /p\narg a=1\narg a=2\nheader host: demo.test\nheader x-r: 1\nheader x-r: 2"
    );
    // What nobody touched goes on to the upstream as it came.
    let token = gateway.prepare(&[("do", r#"{"rewrite": {"path": "/new"}}"#)]);
    let rewrite = gateway.request(token, &request).rewrite();
    assert_eq!(rewrite.args, entries(&[("a", "1"), ("a", "2")]));
    assert!(rewrite.headers.is_empty());
}

/// Python: text is decoded as UTF-8, other bytes raise an exception (runner/http/request.py; MOVING.md, `get_header`).
#[test]
fn bytes_that_are_not_utf_8_reach_the_plugin_and_come_back() {
    let runner = Runner::with(&["do"]);
    let mut gateway = runner.gateway();
    let mut request = Request::get("/");
    request.path = b"/\xff\x80".to_vec();
    request.args = vec![(b"\xfe".to_vec(), Some(b"\0\xff".to_vec()))];
    request.headers = vec![(b"x-bin".to_vec(), Some(b"\xc3\x28".to_vec()))];
    let token = gateway.prepare(&ECHO);
    let seen = gateway.request(token, &request).answer().body;
    assert_eq!(
        seen,
        b"path /\xff\x80\narg \xfe=\0\xff\nheader x-bin: \xc3\x28"
    );
    let conf =
        r#"{"rewrite": {"path": {"hex": "2ffffe"}, "headers": [["x-bin", {"hex": "ff41"}]]}}"#;
    let token = gateway.prepare(&[("do", conf)]);
    let rewrite = gateway.request(token, &request).rewrite();
    assert_eq!(rewrite.path, b"/\xff\xfe");
    assert_eq!(rewrite.headers[0].1.as_deref(), Some(&b"\xffA"[..]));
}

/// Go and Python: tokens count up from 1, so after a restart an old one means whatever is prepared in its place (Go:
/// internal/plugin/conf.go, `tokenCounter`; Python: runner/plugin/cache.py, `generate_token`). Each of the gateway's
/// workers flushes its tokens for itself (capture go-restart-token-not-found).
#[test]
fn after_a_restart_a_client_that_keeps_its_old_tokens_never_gets_another_configuration() {
    let mut runner = Runner::with(&["stop"]);
    let conf = |body: &str| format!(r#"{{"body": "{body}"}}"#);
    let (first, second, third) = (conf("first"), conf("second"), conf("third"));
    let mut gateway = runner.gateway();
    let old = [
        gateway.prepare(&[("stop", &first)]),
        gateway.prepare(&[("stop", &second)]),
    ];
    // With the assignments of before, and with nothing left of them.
    for forget in [false, true] {
        runner.signal(Signal::TERM);
        runner.wait();
        if forget {
            fs::remove_dir_all(runner.setup().folder().join("state")).unwrap();
        }
        runner = runner.restart();
        let (mut keeps, mut flushes) = (runner.gateway(), runner.gateway());
        let not_found = Reply::Error(Code::ConfTokenNotFound);
        assert_eq!(keeps.request(old[0], &Request::get("/")), not_found);
        // In another order, with a new one in front.
        flushes.prepare(&[("stop", &third)]);
        assert_eq!(flushes.prepare(&[("stop", &second)]), old[1]);
        assert_eq!(keeps.request(old[0], &Request::get("/")), not_found);
        assert_eq!(keeps.request(old[1], &Request::get("/")).text(), "second");
        assert_eq!(flushes.prepare(&[("stop", &first)]), old[0]);
        assert_eq!(keeps.request(old[0], &Request::get("/")).text(), "first");
    }
}

/// Go: a plugin whose conf it cannot read is left out, and the request passes without it (internal/plugin/conf.go,
/// `Set`; MOVING.md, `ParseConf`).
#[test]
fn a_plugin_with_a_conf_that_it_refuses_is_not_left_out() {
    let runner = Runner::with(&["stop", "rewrite"]);
    let mut gateway = runner.gateway();
    for bad in [r#"{"status": "teapot"}"#, "[", r#"{"statsu": 201}"#] {
        assert_eq!(gateway.get(&[("stop", bad)]), UNAVAILABLE, "{bad}");
        let before = [("rewrite", "{}"), ("stop", bad)];
        assert_eq!(gateway.get(&before), UNAVAILABLE, "{bad}");
        let behind = [("stop", bad), ("rewrite", "{}")];
        assert_eq!(gateway.get(&behind), UNAVAILABLE, "{bad}");
    }
    assert_eq!(gateway.get(&STOP).text(), "ok");
}

/// Go: it adds a header to every reply, and with one header in it the gateway throws away all of the upstream's
/// (captures go-response-rewrite-noop, post-resp-headers).
#[test]
fn the_upstreams_headers_are_not_lost_in_a_response_call() {
    let runner = Runner::with(&["do"]);
    let mut gateway = runner.gateway();
    let upstream = [
        ("Content-Type", "text/css"),
        ("Location", "/l"),
        ("Content-Encoding", "br"),
        ("Set-Cookie", "a=1"),
        ("Set-Cookie", "b=2"),
        ("Connection", "close"),
        ("Transfer-Encoding", "chunked"),
    ];
    let mut expected = entries(&upstream[..5]);
    let unchanged = gateway.prepare(&[("do", "{}")]);
    let response = Response::new(201, &upstream);
    let answer = gateway.response(unchanged, &response).answer();
    assert_eq!(answer.headers, expected);
    let adds = gateway.prepare(&[("do", r#"{"resp": {"headers": [["X-Added", "1"]]}}"#)]);
    let answer = gateway.response(adds, &response).answer();
    expected.extend(entries(&[("X-Added", "1")]));
    assert_eq!((answer.headers, answer.body), (expected, Vec::new()));
}

/// Go: a new body goes out beside whatever length the headers say (internal/http/response.go, `FetchChanges`), and the
/// gateway trusts what it is told (capture stop-header-content-type-length).
#[test]
fn a_changed_body_does_not_keep_the_length_of_the_old_one() {
    let runner = Runner::with(&["do"]);
    let mut gateway = runner.gateway();
    let token = gateway.prepare(&[("do", r#"{"resp": {"body": "longer than it was"}}"#)]);
    let upstream = [("Content-Type", "text/css"), ("Content-Length", "3")];
    let response = Response::new(200, &upstream);
    let answer = gateway.response(token, &response).answer();
    assert_eq!(answer.headers, entries(&upstream[..1]));
    assert_eq!(answer.text(), "longer than it was");
    // Nor can a plugin set a wrong one.
    let conf = r#"{"stop": {"status": 200, "headers": [["Content-Length", "3"]], "body": "four"}}"#;
    assert_eq!(gateway.get(&[("do", conf)]), UNAVAILABLE);
}

/// Go and Python: at its end the old runner unlinks the path, where the new one listens by then (Go: server.go, closing
/// the listener; Python: server.py, `__del__`). When APISIX reloads, both share one path for some 100 ms.
#[test]
fn the_successors_socket_is_not_removed() {
    let mut old = Runner::with(&["stop"]);
    let socket = old.setup().socket();
    let inode = |path| fs::metadata(path).map(|metadata| metadata.ino()).ok();
    let first = inode(&socket);
    let mut new = old.setup().command().stderr(Stdio::null()).spawn().unwrap();
    let mut pooled = old.gateway();
    wait::until("the new one has the path", || {
        assert_eq!(Gateway::connect(&socket).get(&STOP).text(), "ok");
        (inode(&socket) != first).then_some(())
    });
    // A connection to the old one works until it ends.
    assert_eq!(pooled.get(&STOP).text(), "ok");
    old.signal(Signal::TERM);
    old.wait();
    assert!(fs::metadata(&socket).unwrap().file_type().is_socket());
    assert_eq!(Gateway::connect(&socket).get(&STOP).text(), "ok");
    new.kill().unwrap();
    new.wait().unwrap();
}

/// Go: one read for a payload, as above; its limit is 2^25 - 1, so the length of a longer reply wraps around
/// (internal/server/server.go, `MaxDataSize`).
#[test]
fn a_frame_of_2_to_the_24_minus_1_bytes_is_read() {
    let runner = Runner::with(&["stop"]);
    let mut gateway = runner.gateway();
    let token = gateway.prepare(&STOP);
    let empty = Request::get("/").header("x-long", "").payload(token).len();
    let long = "y".repeat(LONGEST - empty);
    let mut payload = Request::get("/").header("x-long", &long).payload(token);
    assert!(payload.len() <= LONGEST && payload.len() + 8 > LONGEST);
    // The bytes behind a message belong to nobody.
    payload.resize(LONGEST, 0);
    gateway.send(HTTP_REQ_CALL, &payload);
    assert_eq!(gateway.receive().reply().text(), "ok");
    let mut prepare = prepare_payload("route#long", &STOP);
    prepare.resize(LONGEST, 0);
    gateway.send(PREPARE_CONF, &prepare);
    assert_eq!(gateway.receive().kind, PREPARE_CONF);
    assert_eq!(gateway.get(&STOP).text(), "ok");
}

/// As above, in the other direction.
#[test]
fn the_longest_reply_that_fits_is_written_and_a_longer_one_is_an_error_that_says_so() {
    let runner = Runner::with(&["do"]);
    let mut gateway = runner.gateway();
    let token = gateway.prepare(&ECHO_BODY);
    let mut reply_to = |body: &[u8]| {
        gateway.facts.insert(Question::RequestBody, body.into());
        gateway.send(HTTP_REQ_CALL, &Request::get("/").payload(token));
        gateway.receive_reply()
    };
    // Payloads have a multiple of 4 bytes.
    let around = reply_to(b"four").payload.len() - 4;
    let mut body = vec![b'z'; (LONGEST - around) / 4 * 4];
    let longest = reply_to(&body);
    assert!(longest.payload.len() + 4 > LONGEST);
    assert!(longest.reply().answer().body == body);
    body.push(b'z');
    assert_eq!(reply_to(&body).reply(), UNAVAILABLE);
    runner.log().wait_for(&["too large", "16777215"]);
    assert_eq!(reply_to(b"small").reply().text(), "small");
}

/// Go: a body that came empty is asked for again (internal/http/response.go, `ReadBody`), and APISIX answers the second
/// time with nothing (capture post-resp-body-fetch-twice).
#[test]
fn the_body_of_a_response_is_asked_for_once_whoever_wants_it() {
    let runner = Runner::with(&["asking", "response-rewrite", "do"]);
    let mut gateway = runner.gateway().response_body("hello");
    let filters = r#"{"filters": [{"regex": "(?i)l", "scope": "global", "replace": "_"}]}"#;
    let token = gateway.prepare(&[
        ("do", r#"{"steps": [{"extra": "resp_body"}]}"#),
        ("asking", "{}"),
        ("response-rewrite", filters),
    ]);
    let answer = gateway.response(token, &Response::new(200, &[])).answer();
    assert_eq!(answer.text(), "HE__O");
    assert_eq!(gateway.asked, [Question::ResponseBody]);
    // An empty one is an answer, too.
    let mut gateway = runner.gateway().response_body("");
    gateway.response(token, &Response::new(204, &[]));
    assert_eq!(gateway.asked, [Question::ResponseBody]);
}

/// Go: an error in the log for each; Python: an exception that ends the connection's thread (Go: server.go, `writeErr`;
/// Python: server.py, `sendall`).
#[test]
fn a_client_that_left_before_its_reply_costs_nothing() {
    let runner = Runner::with(&["misbehaving", "asking", "stop"]);
    let worker = runner.worker();
    let slow = [("misbehaving", r#"{"mode": "sleep", "ms": 100}"#)];
    let mut last = runner.gateway();
    let token = last.prepare(&slow);
    for _ in 0..8 {
        let mut gateway = runner.gateway();
        gateway.send(HTTP_REQ_CALL, &Request::get("/").payload(token));
    }
    for how in 0..3 {
        let mut gateway = runner.gateway();
        let token = gateway.prepare(&[("asking", r#"{"also": "host"}"#)]);
        gateway.send(HTTP_REQ_CALL, &Request::get("/").payload(token));
        match how {
            0 => {}
            1 => drop(gateway.receive()),
            _ => gateway.stop_sending(),
        }
    }
    // Begun after the others, and as long.
    assert_eq!(last.request(token, &Request::get("/")).text(), "awake");
    assert_eq!(runner.gateway().get(&STOP).text(), "ok");
    assert!(is_alive(worker));
    let lines = runner.log().lines();
    let loud = |line: &&String| line.contains("ERROR") || line.contains("panicked");
    assert_eq!(lines.iter().find(loud), None);
}
