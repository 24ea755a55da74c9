//! Phases in order, failures, and what may be skipped.

use std::time::Duration;

use bumpalo::Bump;
use plugin_api::abi::numbers::{decision, edit, map, number, text};
use plugin_api::abi::{Bytes, CallPointer, Handle, HostRef};

use super::*;
use crate::plugins::tests::fake::{Functions, generation};
use crate::protocol::message::{Entries, RequestCall};
use crate::request::answers::Answers;
use crate::request::bodies::Bodies;
use crate::request::moment::Moment;
use crate::request::service::{Ask, AskError};
use crate::request::state::Message;

type Run = extern "C" fn(Handle, Handle, u32, HostRef, CallPointer) -> u32;

/// A gateway that has left.
struct Gone;

impl Ask for Gone {
    fn ask(&mut self, _: &[u8]) -> Result<crate::protocol::payload::Payload, AskError> {
        Err(AskError::Closed)
    }
}

/// Runs these plugins, then looks at what they left behind.
fn run_all(plugins: &[(Run, OnFailure)], look: impl FnOnce(Verdict, &State<'_>)) {
    let links = plugins.iter().map(|(run, on_failure)| {
        let functions = Functions {
            run: *run,
            ..Functions::default()
        };
        let generation = generation(1, "p", "p.so", functions);
        let prepared = Prepared::new(&generation, b"{}", "route#1").unwrap();
        Link {
            name: "p".to_owned(),
            state: LinkState::Ready(Arc::new(prepared)),
            scoped: None,
            on_failure: *on_failure,
        }
    });
    let chain = crate::request::chain::Chain::new(
        1,
        crate::request::conf::Conf {
            route_key: "route#1".to_owned(),
            plugins: Vec::new(),
        },
    );
    chain.publish(chain.begin(), links.collect());
    let call = RequestCall {
        id: 1,
        src_ip: b"",
        method: 0,
        path: b"/",
        args: Entries::default(),
        headers: Entries::default(),
        conf_token: 1,
    };
    let (arena, answers, mut gone) = (Bump::new(), Answers::default(), Gone);
    let deadline = Moment::now() + Duration::from_secs(1);
    let message = Message::Request(call);
    let lists = message.lists(&arena);
    let opened = (message, &lists);
    let bodies = Bodies::default();
    let memory = (&arena, &bodies);
    let mut state = State::new(memory, opened, "route#1", deadline, &answers, &mut gone);
    let verdict = run(
        &chain.snapshot(),
        &mut state,
        &Blame::default(),
        Place::Thread,
    );
    look(verdict, &state);
}

extern "C" fn answers_nothing(_: Handle, _: Handle, _: u32, _: HostRef, _: CallPointer) -> u32 {
    decision::RESPOND
}

extern "C" fn changes_and_fails(
    _: Handle,
    _: Handle,
    _: u32,
    host: HostRef,
    call: CallPointer,
) -> u32 {
    let (name, value) = (Bytes::new(b"x"), Bytes::new(b"1"));
    host.edit()(call, map::REQUEST_HEADERS, edit::SET, name, value);
    host.edit()(call, map::SHARED, edit::SET, name, value);
    host.edit()(call, map::PRIVATE, edit::SET, name, value);
    host.set_text()(call, text::PATH, Bytes::new(b"/other"));
    host.set_number()(call, number::ANSWER_STATUS, 200);
    decision::ERROR
}

extern "C" fn asks_and_fails(
    _: Handle,
    _: Handle,
    _: u32,
    host: HostRef,
    call: CallPointer,
) -> u32 {
    host.ask()(
        call,
        plugin_api::abi::numbers::ask::VARIABLE,
        Bytes::new(b"v"),
    );
    decision::ERROR
}

extern "C" fn unheard_of(_: Handle, _: Handle, _: u32, _: HostRef, _: CallPointer) -> u32 {
    99
}

#[test]
fn a_plugin_that_says_it_answered_and_did_not_does_not_let_the_request_pass() {
    for plugin in [answers_nothing, unheard_of] {
        run_all(&[(plugin, OnFailure::Error)], |verdict, _| {
            assert_eq!(verdict, Verdict::Fail);
        });
    }
}

#[test]
fn of_a_failure_that_is_skipped_nothing_stays() {
    run_all(&[(changes_and_fails, OnFailure::Skip)], |verdict, state| {
        assert_eq!(verdict, Verdict::Answer);
        assert!(state.answer.is_none() && state.changes.path.is_none());
        assert!(state.changes.headers.changes().is_empty());
        assert!(state.changes.shared.changes().is_empty());
        assert!(state.changes.private.is_none());
    });
}

#[test]
fn a_gateway_that_left_in_the_middle_is_not_skipped() {
    run_all(&[(asks_and_fails, OnFailure::Skip)], |verdict, _| {
        assert_eq!(verdict, Verdict::Fail);
    });
}
