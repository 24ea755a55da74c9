//! Large bodies, both ways: byte by byte what they have to be, whoever reads slowly or leaves, and memory for as long as it
//! is needed.

use std::io::Read;
use std::os::unix::net::UnixStream;

use e2e::gateway::frame;
use e2e::load::{descriptors, memory};
use e2e::message::{
    EXTRA_INFO, HTTP_REQ_CALL, HTTP_RESP_CALL, Reply, Request, Response, answer_payload,
};
use e2e::runner::Runner;
use e2e::wait;

const ECHO: [(&str, &str); 1] = [("do", r#"{"echo": "body"}"#)];
const FILTER: [(&str, &str); 1] = [(
    "response-rewrite",
    r#"{"filters": [{"regex": "\\Ax", "replace": "y"}]}"#,
)];

/// The largest that fits into a frame beside a few headers, with room for either side's.
const LARGEST: usize = (1 << 24) - 1024;

/// Bytes that tell where they stand, so that none can be missing, or be another's.
fn body(len: usize) -> String {
    let letters = (1..len).map(|at| char::from(b'a' + (at % 23 + at / 4096 % 3) as u8));
    std::iter::once('x').chain(letters).collect()
}

/// Around the length from which on a body has a block of its own, and the usual ones.
fn sizes() -> impl Iterator<Item = usize> {
    let around = [32 << 10, 64 << 10, 1 << 20];
    let around = around
        .into_iter()
        .flat_map(|size| size - 2..size + 3)
        .chain([128 << 10, 5 << 20, LARGEST]);
    [1, 1000].into_iter().chain(around)
}

fn response(headers: &[(&str, &str)]) -> Response {
    Response::new(200, headers)
}

#[test]
fn a_body_of_any_size_comes_through_each_phase_byte_by_byte() {
    let runner = Runner::with(&["do", "response-rewrite"]);
    for len in sizes() {
        let sent = body(len);
        let gateway = runner.gateway().request_body(&sent);
        let mut gateway = gateway.response_body(&sent);
        assert!(gateway.get(&ECHO).answer().body == sent.as_bytes(), "{len}");
        let token = gateway.prepare(&FILTER);
        let answer = gateway.response(token, &response(&[("a", "b")])).answer();
        assert!(answer.body[0] == b'y' && answer.body[1..] == sent.as_bytes()[1..]);
        assert_eq!(answer.header("a").as_deref(), Some("b"), "{len}");
    }
}

#[test]
fn a_new_body_of_any_size_goes_to_the_upstream_byte_by_byte() {
    let runner = Runner::with(&["request-body-rewrite"]);
    for len in [32 << 10, (1 << 20) + 1] {
        let new = body(len);
        let conf = format!(r#"{{"new_body": "{new}"}}"#);
        let rewrite = runner.gateway().get(&[("request-body-rewrite", &conf)]);
        assert!(rewrite.rewrite().body == new.as_bytes(), "{len}");
    }
}

#[test]
fn a_large_body_goes_out_beside_many_headers_too() {
    let runner = Runner::with(&["response-rewrite"]);
    let value = "v".repeat(100);
    let sent = body(100_001);
    let mut gateway = runner.gateway().response_body(&sent);
    let token = gateway.prepare(&FILTER);
    // From a head of 7 kB to one of 20.
    for count in [50, 60, 65, 70, 150] {
        let names: Vec<_> = (0..count).map(|number| format!("x-{number}")).collect();
        let headers: Vec<_> = names.iter().map(|name| (&**name, &*value)).collect();
        let answer = gateway.response(token, &response(&headers)).answer();
        assert!(answer.body[1..] == sent.as_bytes()[1..], "{count} headers");
        let seen = names.iter().all(|name| answer.header(name).is_some());
        assert!(seen, "{count} headers");
    }
}

#[test]
fn the_last_of_several_large_bodies_counts() {
    let runner = Runner::with(&["response-rewrite"]);
    let sent = body(200_000);
    let mut gateway = runner.gateway().response_body(&sent);
    let one = |from: &str, to: &str| {
        format!(r#"{{"filters": [{{"regex": "\\A{from}", "replace": "{to}"}}]}}"#)
    };
    let confs = [one("x", "first "), one("first", "second"), one("no", "")];
    let chain = confs.each_ref().map(|conf| ("response-rewrite", &**conf));
    let token = gateway.prepare(&chain);
    let answer = gateway.response(token, &response(&[])).answer();
    assert!(answer.text() == format!("second {}", &sent[1..]));
}

#[test]
fn many_at_once_each_get_their_own_also_while_a_library_is_replaced() {
    let runner = Runner::with(&["do", "response-rewrite"]);
    std::thread::scope(|scope| {
        for client in 0..6 {
            let runner = &runner;
            scope.spawn(move || {
                for turn in 0..6 {
                    let sent = body(40_000 + client * 300_007 + turn * 70_001);
                    let mut gateway = runner.gateway().response_body(&sent);
                    let token = gateway.prepare(&FILTER);
                    let answer = gateway.response(token, &response(&[])).answer();
                    assert!(answer.body[0] == b'y' && answer.body[1..] == sent.as_bytes()[1..]);
                }
            });
        }
        runner.setup().install("response-rewrite");
    });
}

#[test]
fn a_reader_that_takes_its_time_gets_all_and_keeps_nobody_waiting() {
    let runner = Runner::with(&["do", "response-rewrite"]);
    let sent = body(LARGEST);
    let mut quick = runner.gateway();
    let token = quick.prepare(&FILTER);
    let mut slow = UnixStream::connect(runner.setup().socket()).unwrap();
    let call = frame(HTTP_RESP_CALL, &response(&[]).payload(token));
    let answer = frame(EXTRA_INFO, &answer_payload(Some(sent.as_bytes())));
    std::io::Write::write_all(&mut slow, &call).unwrap();
    read_frame(&mut slow, 4096, || ());
    std::io::Write::write_all(&mut slow, &answer).unwrap();
    let small = quick.prepare(&ECHO);
    let mut quick = quick.request_body("small");
    let reply = read_frame(&mut slow, 1 << 20, || {
        let reply = quick.request(small, &Request::get("/"));
        assert_eq!(reply.text(), "small");
    });
    let answer = Reply::read(reply[0], &reply[4..]).answer();
    assert!(answer.body[0] == b'y' && answer.body[1..] == sent.as_bytes()[1..]);
}

/// Reads a frame in pieces of `piece` bytes, and does `between` after each.
fn read_frame(stream: &mut UnixStream, piece: usize, mut between: impl FnMut()) -> Vec<u8> {
    let mut frame = vec![0; 4];
    stream.read_exact(&mut frame).unwrap();
    let len = u32::from_be_bytes([0, frame[1], frame[2], frame[3]]) as usize;
    while frame.len() < 4 + len {
        let have = frame.len();
        frame.resize((have + piece).min(4 + len), 0);
        stream.read_exact(&mut frame[have..]).unwrap();
        between();
    }
    frame
}

#[test]
fn a_gateway_that_leaves_in_the_middle_of_a_body_costs_nothing_that_stays() {
    let runner = Runner::with(&["do", "response-rewrite"]);
    let worker = runner.worker();
    let token = runner.gateway().prepare(&FILTER);
    assert_eq!(runner.gateway().request_body("a").get(&ECHO).text(), "a");
    let (before, files) = (memory(worker).0, descriptors(worker));
    let sent = body(4 << 20);
    let call = frame(HTTP_RESP_CALL, &response(&[]).payload(token));
    let answer = frame(EXTRA_INFO, &answer_payload(Some(sent.as_bytes())));
    for turn in 0..12 {
        let mut gateway = runner.gateway();
        gateway.write(&call);
        assert_eq!(gateway.receive().kind, EXTRA_INFO);
        match turn % 3 {
            // In the middle of its answer, …
            0 => gateway.write(&answer[..1 << 20]),
            // … behind it, …
            1 => gateway.write(&answer),
            // … or in the middle of the reply, on its own connection.
            _ => {
                gateway.write(&answer);
                gateway.stop_receiving();
            }
        }
    }
    assert_eq!(runner.gateway().request_body("b").get(&ECHO).text(), "b");
    wait::until("nothing of them is left", || {
        let (now, open) = (memory(worker).0, descriptors(worker));
        (now <= before + 16 && open <= files + 2).then_some(())
    });
}

#[test]
fn memory_of_large_bodies_goes_back_soon_after_the_last_one_also_while_small_calls_go_on() {
    let runner = Runner::with(&["do", "stop"]);
    let worker = runner.worker();
    let mut small = runner.gateway();
    let stop = small.prepare(&[("stop", r#"{"body": "ok"}"#)]);
    let mut call = || assert_eq!(small.request(stop, &Request::get("/")).text(), "ok");
    call();
    let large = runner.gateway().prepare(&ECHO);
    let sent = body(LARGEST);
    let before = memory(worker).0;
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let mut gateway = runner.gateway().patient().request_body(&sent);
                gateway.send(HTTP_REQ_CALL, &Request::get("/").payload(large));
                assert!(gateway.receive_reply().reply().answer().body == sent.as_bytes());
            });
        }
    });
    wait::until("the memory is given back", || {
        call();
        (memory(worker).0 <= before + 16).then_some(())
    });
}
