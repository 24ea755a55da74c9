//! Replays recordings of APISIX 3.18 (tests/fixtures/gateway): a runner that gives the recorded replies must get the
//! recorded calls, and the client and the upstream must see what they saw then.

mod comparing;
mod script;
mod upstream;

use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UnixListener};

use comparing::unescape;
use script::{Script, act};
use upstream::start_upstream;

use super::inspect::Inspector;
use super::journal::Journal;
use super::routes::Routes;
use super::server::Gateway;
use super::session::Session;

const DEADLINE: Duration = Duration::from_secs(20);

fn recordings() -> Vec<Value> {
    let file = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../tests/fixtures/gateway/replay.jsonl"
    );
    let text = std::fs::read_to_string(file).unwrap();
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_recorded_scenario_goes_as_it_went_with_apisix() {
    let recordings = recordings();
    let upstream = start_upstream(&recordings).await;
    assert!(recordings.len() > 100);
    let mut wrong = Vec::new();
    for recording in &recordings {
        let name = recording["name"].as_str().unwrap();
        let replayed = tokio::time::timeout(DEADLINE, replay(recording, &upstream)).await;
        let differences = replayed.unwrap_or_else(|_| vec!["it hangs".to_owned()]);
        wrong.extend(
            differences
                .into_iter()
                .map(|difference| format!("{name}: {difference}")),
        );
    }
    assert!(
        wrong.is_empty(),
        "{} differences\n{}",
        wrong.len(),
        wrong.join("\n")
    );
}

/// Runs one scenario and tells what differs.
async fn replay(recording: &Value, upstream: &str) -> Vec<String> {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("runner.sock");
    let script = Arc::new(Mutex::new(Script::new(recording)));
    tokio::spawn(act(UnixListener::bind(&socket).unwrap(), script.clone()));
    let file = folder.path().join("apisix.yaml");
    std::fs::write(&file, routes_file(recording, upstream)).unwrap();
    let gateway = Gateway::new(
        Session::new(socket),
        Routes::read(&file).unwrap(),
        file,
        None,
        Inspector::new(Arc::new(Journal::new(false)), None, None).unwrap(),
    );
    let gateway = Arc::new(gateway);
    for exchange in recording["http"].as_array().unwrap() {
        let client = exchange["client"].as_str().unwrap();
        let listener = TcpListener::bind((client, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let serving = tokio::spawn(gateway.clone().serve(listener));
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream
            .write_all(&unescape(exchange["request"].as_str().unwrap()))
            .await
            .unwrap();
        let mut response = Vec::new();
        // A dropped client may see a reset; what came until then counts.
        let _ = stream.read_to_end(&mut response).await;
        serving.abort();
        script.lock().unwrap().compare_response(exchange, &response);
    }
    let mut script = script.lock().unwrap();
    if script.next != script.frames.len() {
        let missing = format!(
            "{} of {} frames were exchanged",
            script.next,
            script.frames.len()
        );
        script.differences.push(missing);
    }
    std::mem::take(&mut script.differences)
}

fn routes_file(recording: &Value, upstream: &str) -> String {
    let name = recording["name"].as_str().unwrap();
    let mut route =
        json!({ "id": name, "uri": format!("/s/{name}*"), "plugins": recording["plugins"] });
    let mut file = json!({});
    for (key, value) in recording["route"].as_object().into_iter().flatten() {
        route[key] = value.clone();
        let conf = &recording["frames"][0]["sent"]["conf"][0];
        let plugins =
            json!({ "ext-plugin-pre-req": { "conf": [{ "name": conf[0], "value": conf[1] }] } });
        match key.as_str() {
            "service_id" => file["services"] = json!([{ "id": value }]),
            _ => file["plugin_configs"] = json!([{ "id": value, "plugins": plugins }]),
        }
    }
    if recording["plugins"]["proxy-rewrite"].is_object() {
        route["upstream"] = json!({ "type": "roundrobin", "nodes": { upstream: 1 } });
    }
    file["routes"] = json!([route]);
    format!("{file}\n#END\n")
}

#[test]
fn a_routes_file_that_is_missing_is_told_with_its_path() {
    let error = Routes::read(Path::new("/nowhere/apisix.yaml")).unwrap_err();
    assert!(
        error.to_string().starts_with("/nowhere/apisix.yaml: "),
        "{error}"
    );
}
