//! The routes that are called, and what a right answer of each is. Knows no sockets.

use e2e::message::{
    Answer, HTTP_REQ_CALL, HTTP_RESP_CALL, Reply, Request, Response, prepare_payload, read_id,
};

use crate::builds;

/// The plugin that says which build of it answers.
pub const PLUGIN: &str = "misbehaving";

/// One configuration under a key of its own.
#[derive(Debug, Clone)]
pub struct Route {
    text: String,
    kind: Kind,
    conf: Vec<(String, String)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// Two links of one plugin: both phases of both have to be of one build.
    Told,
    /// As `Told`, and the gateway is asked in between.
    Asked,
    /// Plugins that are never replaced: the last one answers.
    Constant,
    /// A response call.
    Response,
}

const KINDS: [Kind; 4] = [Kind::Told, Kind::Asked, Kind::Constant, Kind::Response];

/// Let every call of ours pass.
const PASSING: [(&str, &str); 6] = [
    ("bot-detection", "{}"),
    ("ip-restriction", r#"{"deny": ["192.0.2.0/24"]}"#),
    ("limit-req", r#"{"rate": 1000000, "burst": 1000000}"#),
    ("rewrite", "{}"),
    ("response-rewrite", "{}"),
    ("say", "{}"),
];

/// The payload of a PREPARE_CONF that names the plugins that no route of ours calls: they are configured like any other.
pub fn uncalled() -> Vec<u8> {
    let confs = [
        ("key-auth", r#"{"anonymous": "somebody"}"#),
        ("acl", r#"{"deny": ["nobody"]}"#),
    ];
    prepare_payload("route#uncalled#ext-plugin-pre-req#1", &confs)
}

/// So many routes, of all kinds.
pub fn routes(count: usize) -> Vec<Route> {
    let kinds = KINDS.into_iter().cycle();
    kinds
        .zip(0..count)
        .map(|(kind, n)| route(kind, n))
        .collect()
}

fn route(kind: Kind, number: usize) -> Route {
    let text = format!("route-{number}");
    let own = |mode: &str| {
        let conf = format!(r#"{{"mode": "{mode}", "text": "{text}"}}"#);
        (PLUGIN.to_owned(), conf)
    };
    let conf = match kind {
        Kind::Told => vec![own("tell"), own("answer")],
        Kind::Asked => vec![own("tell"), own("ask"), own("answer")],
        Kind::Constant => {
            let passing = PASSING.map(|(name, conf)| (name.to_owned(), conf.to_owned()));
            let stop = ("stop".to_owned(), format!(r#"{{"body": "{text}"}}"#));
            passing.into_iter().chain([stop]).collect()
        }
        Kind::Response => vec![own("tell")],
    };
    Route { text, kind, conf }
}

impl Route {
    /// The payload of its PREPARE_CONF.
    pub fn prepare(&self) -> Vec<u8> {
        let conf = self.conf.iter().map(|(n, v)| (n.as_str(), v.as_str()));
        let key = format!("route#{}#ext-plugin-pre-req#1", self.text);
        prepare_payload(&key, &conf.collect::<Vec<_>>())
    }

    /// Kind and payload of a call.
    pub fn call(&self, token: u32, id: u32) -> (u8, Vec<u8>) {
        let number = id.to_string();
        if self.kind == Kind::Response {
            let mut response = Response::new(200, &[("x-call", &number)]);
            response.id = id;
            return (HTTP_RESP_CALL, response.payload(token));
        }
        let mut request = Request::get("/orders").header("x-call", &number);
        request.id = id;
        (HTTP_REQ_CALL, request.payload(token))
    }

    /// The build that has given this answer; `None` when it is always the same.
    ///
    /// # Errors
    /// What is wrong with the answer.
    pub fn check(&self, id: u32, kind: u8, payload: &[u8]) -> Result<Option<u64>, String> {
        let reply = Reply::try_read(kind, payload).ok_or("an answer that cannot be read")?;
        if let Reply::Error(code) = reply {
            return Err(format!("an error frame: {code:?}"));
        }
        if read_id(payload) != id {
            return Err(format!(
                "the answer of call {}, not of {id}",
                read_id(payload)
            ));
        }
        match (self.kind, reply) {
            (Kind::Constant, Reply::Stop(answer)) if answer.text() == self.text => Ok(None),
            (Kind::Response, Reply::Response(answer)) => self.told(id, 1, &header(&answer)),
            (Kind::Told, Reply::Stop(answer)) => self.told(id, 3, &answer.text()),
            (Kind::Asked, Reply::Stop(answer)) => self.told(id, 3, &answer.text()),
            (_, other) => Err(format!("{} was answered with {other:?}", self.text)),
        }
    }

    /// The one build in an answer that has so many marks, the route's text and the call's number in it.
    fn told(&self, id: u32, marks: usize, text: &str) -> Result<Option<u64>, String> {
        let wrong = || format!("{} call {id} was answered with `{text}`", self.text);
        let rest = format!("|{}|{id}", self.text);
        let told = text.strip_suffix(&rest).ok_or_else(wrong)?;
        let builds: Vec<_> = told.split(' ').map(builds::number).collect();
        match builds.as_slice() {
            [Some(first), ..]
                if builds.len() == marks && builds.iter().all(|b| *b == Some(*first)) =>
            {
                Ok(Some(*first))
            }
            _ => Err(format!("versions mix: {}", wrong())),
        }
    }
}

fn header(answer: &Answer) -> String {
    answer.header("x-told").unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(text: &str) -> Result<Option<u64>, String> {
        route(Kind::Told, 7).told(12, 3, text)
    }

    #[test]
    fn an_answer_has_to_be_of_one_build_and_of_the_right_call_and_route() {
        let (one, other) = (builds::mark(41), builds::mark(42));
        assert_eq!(told(&format!("{one} {one} {one}|route-7|12")), Ok(Some(41)));
        for wrong in [
            format!("{one} {other} {other}|route-7|12"),
            format!("{one} {one}|route-7|12"),
            format!("{one} {one} {one}|route-8|12"),
            format!("{one} {one} {one}|route-7|13"),
            "mark-of-the-file mark-of-the-file mark-of-the-file|route-7|12".to_owned(),
        ] {
            assert!(told(&wrong).is_err(), "{wrong}");
        }
    }
}
