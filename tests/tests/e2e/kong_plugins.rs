//! `bot-detection`, `key-auth`, `ip-restriction` and `acl` against a table of what they shall do: fixtures/kong-plugins.json.

use std::collections::BTreeMap;
use std::net::IpAddr;

use e2e::gateway::Gateway;
use e2e::message::{Entries, Reply, Request, value_of};
use e2e::runner::Runner;
use serde::Deserialize;
use serde_json::Value;

/// One line of the table.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    name: String,
    chain: Vec<(String, Value)>,
    target: String,
    #[serde(default)]
    method: String,
    #[serde(default)]
    headers: Vec<(String, String)>,
    #[serde(default)]
    body: Option<String>,
    #[serde(default)]
    client: Option<IpAddr>,
    /// 200: the request goes on to the upstream; 503: the runner answers ERROR.
    status: u16,
    #[serde(default)]
    message: Option<String>,
    #[serde(default)]
    answer_headers: BTreeMap<String, String>,
    /// What the upstream gets; null: nothing of that name.
    #[serde(default)]
    upstream: BTreeMap<String, Option<String>>,
    #[serde(default)]
    query: BTreeMap<String, Option<String>>,
    #[serde(default)]
    upstream_body: Option<String>,
}

impl Case {
    fn request(&self) -> Request {
        let (path, query) = self.target.split_once('?').unwrap_or((&self.target, ""));
        let mut request = Request::get(path);
        for arg in query.split('&').filter(|arg| !arg.is_empty()) {
            let (name, value) = arg
                .split_once('=')
                .map_or((arg, None), |(n, v)| (n, Some(v)));
            request.args.push((name.into(), value.map(Into::into)));
        }
        for (name, value) in &self.headers {
            request = request.header(name, value);
        }
        request.method = match self.method.as_str() {
            "POST" => 2,
            "OPTIONS" => 8,
            _ => 0,
        };
        match self.client {
            Some(IpAddr::V4(client)) => request.address = client.octets().to_vec(),
            Some(IpAddr::V6(client)) => request.address = client.octets().to_vec(),
            None => {}
        }
        request
    }

    fn check(&self, gateway: &mut Gateway) -> Result<(), String> {
        let chain: Vec<_> = self
            .chain
            .iter()
            .map(|(name, conf)| (name, conf.to_string()))
            .collect();
        let chain: Vec<_> = chain
            .iter()
            .map(|(name, conf)| (name.as_str(), conf.as_str()))
            .collect();
        gateway.facts.clear();
        if let Some(body) = &self.body {
            let question = e2e::message::Question::RequestBody;
            gateway.facts.insert(question, body.clone().into_bytes());
        }
        let token = gateway.prepare(&chain);
        let request = self.request();
        match gateway.request(token, &request) {
            Reply::Error(_) if self.status == 503 => Ok(()),
            Reply::Stop(answer) if self.status != 200 => {
                let body: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
                same("status", &answer.status, &self.status)?;
                same(
                    "message",
                    &body["message"].as_str(),
                    &self.message.as_deref(),
                )?;
                for (name, value) in &self.answer_headers {
                    same(name, &answer.header(name).as_deref(), &Some(value.as_str()))?;
                }
                Ok(())
            }
            Reply::Nothing if self.status == 200 => self.upstream(&request, &vec![], &vec![], None),
            Reply::Rewrite(rewrite) if self.status == 200 => {
                let body = rewrite.body.as_slice();
                self.upstream(&request, &rewrite.headers, &rewrite.args, Some(body))
            }
            other => Err(format!("{other:?}")),
        }
    }

    fn upstream(
        &self,
        request: &Request,
        headers: &Entries,
        args: &Entries,
        body: Option<&[u8]>,
    ) -> Result<(), String> {
        for (name, value) in &self.upstream {
            same(name, &after(&request.headers, headers, name), value)?;
        }
        for (name, value) in &self.query {
            same(name, &after(&request.args, args, name), value)?;
        }
        match &self.upstream_body {
            Some(wanted) => same("body", &body, &Some(wanted.as_bytes())),
            None => Ok(()),
        }
    }
}

/// What the gateway makes of a name when these are the changes.
fn after(before: &Entries, changes: &Entries, name: &str) -> Option<String> {
    let is_it = |(key, _): &&(Vec<u8>, Option<Vec<u8>>)| key.eq_ignore_ascii_case(name.as_bytes());
    match changes.iter().find(is_it) {
        Some((_, value)) => value
            .as_ref()
            .map(|value| String::from_utf8_lossy(value).into_owned()),
        None => value_of(before, name),
    }
}

fn same<T: PartialEq + std::fmt::Debug>(what: &str, found: &T, wanted: &T) -> Result<(), String> {
    if found == wanted {
        return Ok(());
    }
    Err(format!("{what}: {found:?}, not {wanted:?}"))
}

#[test]
fn the_four_plugins_do_what_the_table_says() {
    let cases: Vec<Case> =
        serde_json::from_str(include_str!("../../fixtures/kong-plugins.json")).unwrap();
    assert!(cases.len() >= 60);
    let runner = Runner::with(&[
        "bot-detection",
        "key-auth",
        "ip-restriction",
        "acl",
        "tracer",
    ]);
    let mut gateway = runner.gateway();
    let wrong = cases.iter().filter_map(|case| {
        let wrong = case.check(&mut gateway).err()?;
        Some(format!("{}: {wrong}", case.name))
    });
    let wrong: Vec<_> = wrong.collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
